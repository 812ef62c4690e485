"""The user office that is two CSV files: the contract of every office, and what is CSV's own."""

from __future__ import annotations

import csv
import io
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue.sources import CsvUserOffice, SourceBroken
from beamhub_catalogue.sources.csv_office import SHORT_PROPOSAL_COLUMNS
from beamhub_catalogue.sources.tables import MEMBER_COLUMNS, PROPOSAL_COLUMNS, STAFF_COLUMNS
from beamhub_core.config.catalogue import CsvOfficeConfig
from contracts.membership_source_contract import ISSUER, MembershipSourceContract, member, proposal

log = logging.getLogger(__name__)

HEADER = ",".join(MEMBER_COLUMNS)
ROW = f"MA-2,{ISSUER},ines,,,Ines Ferreira,pi,,"


class CsvSource:
    """CSV files in a folder."""

    first_line = 2
    gone_words = "No such file or directory"
    cut_words = "line [0-9]+: the last row has no line break"

    def __init__(self, folder: Path) -> None:
        self.proposals, self.members, self.staff = (
            folder / f"{name}.csv" for name in ("proposals", "members", "staff")
        )
        files = {"proposals": self.proposals, "members": self.members, "staff": self.staff}
        self.office = CsvUserOffice(CsvOfficeConfig.model_validate({"name": "office", "kind": "csv"} | files))

    def tell(
        self,
        proposals: Sequence[dict[str, str]] = (),
        members: Sequence[dict[str, str]] = (),
        staff: Sequence[dict[str, str]] = (),
    ) -> None:
        """Replace all files."""
        for path, columns, rows in (
            (self.proposals, PROPOSAL_COLUMNS, proposals),
            (self.members, MEMBER_COLUMNS, members),
            (self.staff, STAFF_COLUMNS, staff),
        ):
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(rows)
            self.write(path, text.getvalue().encode())

    def write(self, path: Path, raw: bytes) -> None:
        """As a careful program replaces a file."""
        part = path.with_suffix(".part")
        part.write_bytes(raw)
        part.replace(path)

    def vanish(self) -> None:
        """Remove the members."""
        self.members.unlink()

    def cut(self) -> None:
        """Cut the members in the last field of a row in the middle."""
        raw = self.members.read_bytes()
        self.write(self.members, raw[: raw.index(b"\n", len(raw) // 2) - 3])


@pytest.fixture
def source(tmp_path: Path) -> CsvSource:
    """An office that says nothing yet."""
    made = CsvSource(tmp_path)
    made.tell([proposal()], [member()])
    return made


class TestCsvUserOffice(MembershipSourceContract):
    """The contract."""


def test_an_office_without_access_routes_and_staff_needs_no_column_and_no_file_for_them(
    tmp_path: Path,
) -> None:
    source = CsvSource(tmp_path)
    source.tell([proposal()], [member()])
    source.write(
        source.proposals, f"{','.join(SHORT_PROPOSAL_COLUMNS)}\nMA-2,Electrodes,standard,bl09,,\n".encode()
    )
    files = {"proposals": source.proposals, "members": source.members}
    config = CsvOfficeConfig.model_validate({"name": "office", "kind": "csv"} | files)
    reading = CsvUserOffice(config).read()
    assert [p.access_route for p in reading.proposals] == [""]
    assert (reading.staff, reading.problems) == ((), ())


def test_a_staff_file_that_is_named_must_be_there(source: CsvSource) -> None:
    source.staff.unlink()
    with pytest.raises(SourceBroken, match=r"staff\.csv: No such file"):
        source.office.read()


def test_a_file_that_became_readable_is_read_again(source: CsvSource) -> None:
    before = source.office.fingerprint()
    source.members.chmod(0o400)
    assert source.office.fingerprint() != before


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_spreadsheets_line_ends_and_byte_order_marks_are_read(
    source: CsvSource, mark: str, ending: str
) -> None:
    source.write(source.members, f"{mark}{HEADER}{ending}{ROW}{ending}{ending}".encode())
    reading = source.office.read()
    assert [m.subject for m in reading.members] == ["ines"]
    assert reading.problems == ()


def test_a_quoted_line_break_is_part_of_its_field_and_lines_are_counted_past_it(source: CsvSource) -> None:
    two_lines = ROW.replace("Ines Ferreira", '"Ines, ""the\nPI"" Ferreira"')
    source.write(source.members, f"{HEADER}\n{two_lines}\n{ROW.replace(',pi,', ',boss,')}\n".encode())
    reading = source.office.read()
    assert [m.name for m in reading.members] == ['Ines, "the\nPI" Ferreira']
    assert [p.line for p in reading.problems] == [4]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "header"),
        ("\n", 1, "header"),
        (HEADER.replace(",role", "") + "\n", 1, "header"),
        (HEADER + ",notes\n", 1, "header"),
        (HEADER.replace("issuer,subject", "subject,issuer") + "\n", 1, "header"),
        (f"{HEADER}\n{ROW},more\n", 2, "10 fields, not 9"),
        (f"{HEADER}\n{ROW}\n{ROW[:-1]}\n", 3, "8 fields, not 9"),
        (f'{HEADER}\n{ROW}\nMA-2,"{ISSUER},ines\n{ROW}\n', 3, "not CSV"),
        (f'{HEADER}\n{ROW}\nMA-2,"a"b,,,,,pi,,\n', 3, "not CSV"),
        (f"{HEADER}\n{ROW}\n{ROW}", 3, "cut short"),
        (f"{HEADER}\n{ROW}\nMA-2,,,,,{'n' * 4_001},pi,,\n", 3, "longer than 4000"),
        (f"{HEADER}\n{ROW}\nMA-2,,,,,{'n' * 200_000},pi,,\n", 3, "not CSV"),
        (f"{HEADER}\n{ROW}\nMA-2,,,,,a\0b,pi,,\n", 3, ""),
    ],
)
def test_a_file_that_is_not_whole_is_no_state_and_its_line_is_named(
    source: CsvSource, text: str, line: int, words: str
) -> None:
    source.write(source.members, text.encode())
    with pytest.raises(SourceBroken, match=r"members\.csv, line") as caught:
        source.office.read()
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("members.csv", line)
    assert words in problem.reason


def test_a_file_in_another_encoding_is_no_state(source: CsvSource) -> None:
    source.write(source.members, f"{HEADER}\n{ROW}\n{ROW.replace('Ines', 'Inês')}\n".encode("latin-1"))
    with pytest.raises(SourceBroken, match=r"members\.csv, line 3: is not UTF-8"):
        source.office.read()


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_file_is_no_state_and_is_not_waited_for(source: CsvSource, kind: str) -> None:
    source.members.unlink()
    if kind == "folder":
        source.members.mkdir()
    else:
        os.mkfifo(source.members)
    with pytest.raises(SourceBroken, match="is not a file"):
        source.office.read()


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_read_whole(source: CsvSource) -> None:
    n_rows = 100_000
    rows = [f"P-{i % 5_000},{ISSUER},s{i},,,Person {i},pi,2025-01-01,2026-12-31" for i in range(n_rows)]
    proposals = [f"P-{i},Title,standard,bl09,2025-01-01,2025-01-02" for i in range(5_000)]
    source.write(source.proposals, "\n".join([",".join(SHORT_PROPOSAL_COLUMNS), *proposals, ""]).encode())
    source.write(source.members, "\n".join([HEADER, *rows, ""]).encode())
    began = time.monotonic()
    reading = source.office.read()
    log.info("rows read", extra={"n_rows": n_rows, "duration_s": time.monotonic() - began})
    assert len(reading.members) == n_rows
    assert len(reading.proposals) == 5_000
    assert reading.problems == ()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
SUBJECTS = TEXT.filter(lambda text: text and text == text.strip())


@given(subjects=st.lists(SUBJECTS, unique=True, min_size=1, max_size=8), name=TEXT)
def test_whatever_a_subject_is_its_row_names_that_person_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, subjects: list[str], name: str
) -> None:
    source = CsvSource(tmp_path_factory.mktemp("office"))
    source.tell([proposal()], [member(name=name, subject=s) for s in subjects])
    reading = source.office.read()
    assert [m.identity for m in reading.members] == [(ISSUER, s, None, None) for s in subjects]
    assert reading.problems == ()


@given(data=st.data())
def test_a_file_cut_anywhere_in_a_row_is_never_a_state(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    source = CsvSource(tmp_path_factory.mktemp("office"))
    source.tell([proposal()], [member(name='A\n"B"', until="2026-12-31"), member(subject="nina")])
    raw = source.members.read_bytes()
    whole = {len(raw[:i]) for i in (len(HEADER) + 2, raw.index(b"31\r\n") + 4, len(raw))}
    cut = data.draw(st.integers(0, len(raw) - 1).filter(lambda i: i not in whole))
    source.write(source.members, raw[:cut])
    if raw[:cut].endswith(b"\r") and cut + 1 in whole:
        return  # the row is whole, its line break is half there
    with pytest.raises(SourceBroken, match=r"members\.csv"):
        source.office.read()
