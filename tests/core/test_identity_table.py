"""The facility's table of accounts: read whole or not at all, with every bad line named."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity_table import (
    HEADER,
    MAX_BYTES,
    MAX_ID,
    MAX_PROBLEMS,
    MappedIdentity,
    read_identity_table,
    read_number,
)

ISSUER = "https://provider.example/oidc"
GOOD = f"{ISSUER},ines,iferreira,12001,20000,20001 20002,example.org,Inês Ferreira"


def table(folder: Path, *lines: str) -> Path:
    path = folder / "people.csv"
    path.write_text("\n".join([",".join(HEADER), *lines, ""]), "utf-8")
    return path


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        read_identity_table(path)
    assert caught.value.source == str(path)
    return caught.value.problems


def test_a_row_says_who_somebody_is(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD, "", f"{ISSUER},oscar,oscar,,,,,")
    assert read_identity_table(path) == {
        (ISSUER, "ines"): MappedIdentity(
            account="iferreira",
            uid=12001,
            gid=20000,
            gids=(20001, 20002),
            home_organisation="example.org",
            display_name="Inês Ferreira",
        ),
        (ISSUER, "oscar"): MappedIdentity(account="oscar"),
    }


def test_a_mark_of_the_byte_order_before_the_header_is_read_over(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_identity_table(path)) == 1


def test_two_identities_of_one_account_may_stand_there(tmp_path: Path) -> None:
    other = GOOD.replace("ines,", "ines-2,").replace("20001 20002", "20002 20001")
    assert len(read_identity_table(table(tmp_path, GOOD, other))) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f"{ISSUER},oscar,iferreira,12001,20009,,,", "the same account as in line 2, with other numbers"),
        (f"{ISSUER},oscar,oscar,12001,20000,,,", "the same uid as in line 2, for another account"),
        (f"{ISSUER},ines,other,12009,20000,,,", "the same person as in line 2"),
        (GOOD, "the same person as in line 2"),
        (f"{ISSUER},x,x,12005,,,,", "uid and gid stand together"),
        (f"{ISSUER},x,x,,12005,,,", "uid and gid stand together"),
        (f"{ISSUER},x,x,,,12005,,", "gids need uid and gid"),
        (f"{ISSUER},x,x,-1,12005,,,", "whole numbers"),
        (f"{ISSUER},x,x,12e3,12005,,,", "whole numbers"),
        (f"{ISSUER},x,x,012005,12005,,,", "whole numbers"),
        (f"{ISSUER},x,x,12005,12005,20001;20002,,", "whole numbers"),
        (f"{ISSUER},x,x,4294967295,12005,,,", "whole numbers"),
        (f"{ISSUER},x,x,\u0661\u0662\u0660\u0660\u0665,12005,,,", "whole numbers"),
        (f"{ISSUER},x,../x,12005,12005,,,", "account must be"),
        (f"{ISSUER},x,-x,12005,12005,,,", "account must be"),
        (f"{ISSUER},x,,12005,12005,,,", "account must be"),
        (f"{ISSUER},,x,12005,12005,,,", "needs issuer and subject"),
        (f"{ISSUER}, x,x,12005,12005,,,", "subject is longer"),
        (f"{ISSUER},x,x,12005,12005,,,a\u202eb", "name is longer"),
        (f"{ISSUER},x,x", "has 3 fields instead of 8"),
    ],
)
def test_a_line_that_cannot_be_is_named_with_its_reason(tmp_path: Path, line: str, problem: str) -> None:
    [found] = problems(table(tmp_path, GOOD, line))
    assert found.startswith("line 3: ")
    assert problem in found


def test_all_bad_lines_are_named_without_what_they_say(tmp_path: Path) -> None:
    lines = [f"{ISSUER},secret-subject-{n},x x,,,,," for n in range(MAX_PROBLEMS + 20)]
    found = problems(table(tmp_path, *lines))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "and 20 more"
    assert "secret-subject" not in str(found)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "header"),
        (b"issuer,subject\n", "header"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'issuer,"subject', "CSV"),
        (",".join(HEADER).encode() + b'\n"a"b,c\n', "CSV"),
        (b"x" * (MAX_BYTES + 1), "larger"),
    ],
    ids=["empty", "header", "encoding", "open-quote", "quotes", "size"],
)
def test_a_file_that_is_no_table(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(data)
    assert problem in problems(path)[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "people.csv") == ("cannot be read: No such file or directory",)


NUMBERS = st.integers(0, MAX_ID)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=20)


@given(
    people=st.lists(
        st.tuples(
            WORDS.filter(bool),
            WORDS.filter(bool),
            NUMBERS,
            NUMBERS,
            st.lists(NUMBERS, max_size=4),
            WORDS,
            WORDS,
        ),
        max_size=8,
        unique_by=(lambda row: row[:2], lambda row: row[2]),
    )
)
def test_what_is_written_is_what_is_read(
    people: list[tuple[str, str, int, int, list[int], str, str]],
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADER)
    expected = {}
    for i, (issuer, subject, uid, gid, gids, organisation, name) in enumerate(people):
        writer.writerow([issuer, subject, f"p{i}", uid, gid, " ".join(map(str, gids)), organisation, name])
        expected[issuer, subject] = MappedIdentity(
            account=f"p{i}",
            uid=uid,
            gid=gid,
            gids=tuple(gids),
            home_organisation=organisation or None,
            display_name=name or None,
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        path.write_bytes(text.getvalue().encode())
        assert read_identity_table(path) == expected


@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_file_holds_it_is_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        path.write_bytes(",".join(HEADER).encode() + b"\n" + data)
        try:
            people = read_identity_table(path)
        except ConfigInvalid as error:
            assert error.problems
        else:
            assert all(issuer and subject for issuer, subject in people)


@given(text=st.text(max_size=12) | st.integers(-(2**33), 2**33).map(str))
def test_a_number_is_read_exactly_or_not_at_all(text: str) -> None:
    number = read_number(text)
    assert number is None or (str(number) == text and 0 <= number <= MAX_ID)
