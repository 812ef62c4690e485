"""A user office that is two CSV files, `proposals` and `members`."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import get_args

from beamhub_catalogue.sources.contract import (
    MemberEntry,
    ProposalEntry,
    SourceBroken,
    SourceProblem,
    SourceReading,
)
from beamhub_core.config.catalogue import UserOfficeConfig
from beamhub_core.rights import ProposalRole

PROPOSAL_COLUMNS = ("proposal", "title", "class", "instrument", "start", "end")
MEMBER_COLUMNS = (
    "proposal",
    "issuer",
    "subject",
    "orcid",
    "facility_account",
    "name",
    "role",
    "from",
    "until",
)
MAX_FILE_BYTES = 128_000_000
MAX_FIELD_CHARS = 4_000
# What the tables hold of a field that is shorter than the rest.
MAX_CHARS = {"class": 80, "instrument": 200, "issuer": 512, "subject": 512, "facility_account": 64}
# These name a person to the letter: nothing is trimmed, so that nobody becomes somebody else.
EXACT_COLUMNS = ("issuer", "subject", "facility_account")
MAX_PROBLEMS = 200

_PROPOSAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ORCID = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

Row = tuple[int, dict[str, str]]


class CsvUserOffice:
    """Proposals and members from two UTF-8 CSV files with a header row.

    A file that is not whole (wrong header, a row with another number of fields, an open quote, a last row
    without a line break) makes the whole reading fail, so that the last good state stays. A row with a
    wrong value is reported and gives nobody a right: a member's row is left out, a proposal's stays closed.
    """

    def __init__(self, config: UserOfficeConfig) -> None:
        self._config = config

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self._config.name

    def fingerprint(self) -> str:
        """Size, time and inode of both files."""
        return ";".join(_fingerprint(path) for path in (self._config.proposals, self._config.members))

    def read(self) -> SourceReading:
        """All proposals and members; see the class on what fails and what is reported."""
        proposal_rows = _read_rows(self.name, self._config.proposals, PROPOSAL_COLUMNS)
        member_rows = _read_rows(self.name, self._config.members, MEMBER_COLUMNS)
        problems: list[SourceProblem] = []
        proposals = _proposals(proposal_rows, self._config.proposals.name, problems)
        members = _members(member_rows, self._config.members.name, problems, known=set(proposals))
        return SourceReading(tuple(proposals.values()), tuple(members), tuple(problems[:MAX_PROBLEMS]))


def _fingerprint(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        return f"missing:{error.errno}"
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"


def _broken(source: str, path: Path, line: int | None, reason: str) -> SourceBroken:
    return SourceBroken(source, (SourceProblem(path.name, line, reason),))


def _read_text(source: str, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # to open a fifo would wait for ever
            raise _broken(source, path, None, "is not a file")
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise _broken(source, path, None, f"is larger than {MAX_FILE_BYTES} bytes")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise _broken(source, path, None, error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _broken(source, path, line, "is not UTF-8") from error
    if text and not text.endswith(("\n", "\r")):
        line = text.count("\n") + 1
        raise _broken(source, path, line, "the last row has no line break: was the file cut short?")
    return text


def _read_rows(source: str, path: Path, columns: tuple[str, ...]) -> list[Row]:
    reader = csv.reader(io.StringIO(_read_text(source, path), newline=""), strict=True)
    rows: list[Row] = []
    line = 1
    try:
        header = next(reader, None)
        if header is None or tuple(cell.strip() for cell in header) != columns:
            raise _broken(source, path, 1, f"the header must be: {','.join(columns)}")
        while True:
            line = reader.line_num + 1  # where a row begins; a quoted line break makes it many lines long
            cells = next(reader, None)
            if cells is None:
                return rows
            if not cells:
                continue
            if len(cells) != len(columns):
                raise _broken(source, path, line, f"the row has {len(cells)} fields, not {len(columns)}")
            if any(len(cell) > MAX_FIELD_CHARS or "\0" in cell for cell in cells):
                reason = f"a field is longer than {MAX_FIELD_CHARS} or holds a zero"
                raise _broken(source, path, line, reason)
            rows.append((line, _row(columns, cells)))
    except csv.Error as error:
        raise _broken(source, path, line, f"is not CSV: {error}") from error


def _row(columns: tuple[str, ...], cells: list[str]) -> dict[str, str]:
    named = zip(columns, cells, strict=True)
    return {name: cell if name in EXACT_COLUMNS else cell.strip() for name, cell in named}


def _unfit(row: dict[str, str]) -> str | None:
    """Why a field cannot be taken as it stands."""
    for name, limit in MAX_CHARS.items():
        if len(row.get(name, "")) > limit:
            return f"the {name} is longer than {limit} characters"
    for name in EXACT_COLUMNS:
        if row.get(name, "").strip() != row.get(name, ""):
            return f"the {name} begins or ends with a space"
    return None


def _proposals(rows: list[Row], file: str, problems: list[SourceProblem]) -> dict[str, ProposalEntry]:
    found: dict[str, ProposalEntry] = {}
    for line, row in rows:
        proposal = row["proposal"]
        if not _PROPOSAL_ID.fullmatch(proposal):
            problems.append(SourceProblem(file, line, f"{proposal[:80]!r} is no proposal id; left out"))
            continue
        entry = _proposal(row)
        if isinstance(entry, str):
            problems.append(SourceProblem(file, line, f"{entry}; {proposal} stays closed"))
            entry = ProposalEntry(proposal, row["title"], None, row["instrument"][:200], None, None)
        if found.get(proposal, entry) != entry:
            problems.append(
                SourceProblem(file, line, f"contradicts an earlier row of {proposal}, which stays closed")
            )
            entry = ProposalEntry(proposal, found[proposal].title, None, entry.instrument, None, None)
        found[proposal] = entry
    return found


def _proposal(row: dict[str, str]) -> ProposalEntry | str:
    try:
        start, end = _date(row["start"]), _date(row["end"])
    except ValueError as error:
        return str(error)
    if unfit := _unfit(row):
        return unfit
    if not row["class"]:
        return "the class is empty"
    if start and end and end < start:
        return f"ends on {end}, before it begins on {start}"
    return ProposalEntry(row["proposal"], row["title"], row["class"], row["instrument"], start, end)


def _members(
    rows: list[Row], file: str, problems: list[SourceProblem], *, known: set[str]
) -> Iterator[MemberEntry]:
    entries: list[tuple[int, MemberEntry]] = []
    for line, row in rows:
        entry = _member(row)
        if isinstance(entry, str):
            problems.append(SourceProblem(file, line, f"{entry}; left out"))
            continue
        if entry.proposal not in known:
            problems.append(SourceProblem(file, line, f"the proposal {entry.proposal!r} is not known"))
        entries.append((line, entry))
    _report_overlaps(entries, file, problems)
    return iter(list(dict.fromkeys(entry for _, entry in entries)))


def _member(row: dict[str, str]) -> MemberEntry | str:
    role = next((r for r in get_args(ProposalRole) if r == row["role"]), None)
    issuer, subject = row["issuer"] or None, row["subject"] or None
    orcid = row["orcid"].removeprefix("https://orcid.org/") or None
    account = row["facility_account"] or None
    try:
        since, until = _date(row["from"]), _date(row["until"])
    except ValueError as error:
        return str(error)
    problem = _unfit(row)
    if problem is not None:
        return problem
    if not _PROPOSAL_ID.fullmatch(row["proposal"]):
        problem = f"{row['proposal'][:80]!r} is no proposal id"
    elif role is None:
        problem = f"the role {row['role'][:40]!r} is none of {', '.join(get_args(ProposalRole))}"
    elif (issuer is None) != (subject is None):
        problem = "issuer and subject stand only together"
    elif orcid is not None and not _ORCID.fullmatch(orcid):
        problem = f"{orcid[:40]!r} is no ORCID"
    elif issuer is None and orcid is None and account is None:
        problem = "no identity says who this is"
    elif since and until and until < since:
        problem = f"ends on {until}, before it begins on {since}"
    if problem is not None or role is None:
        return problem or ""
    return MemberEntry(row["proposal"], issuer, subject, orcid, account, row["name"], role, since, until)


def _report_overlaps(
    entries: list[tuple[int, MemberEntry]], file: str, problems: list[SourceProblem]
) -> None:
    """Name rows of one person and proposal whose days overlap; both stay, the stronger role counts."""
    by_person: dict[object, list[tuple[int, MemberEntry]]] = defaultdict(list)
    for line, entry in entries:
        by_person[(entry.proposal, entry.identity)].append((line, entry))
    for same in by_person.values():
        ordered = sorted(same, key=lambda item: item[1].since or date.min)
        for (line, one), (other_line, other) in pairwise(ordered):
            if (other.since or date.min) <= (one.until or date.max):
                word = (
                    "repeats" if other.role == one.role else f"contradicts ({other.role} against {one.role})"
                )
                problems.append(SourceProblem(file, other_line, f"{word} line {line} for some days"))


def _date(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else _no_date(text)
    except ValueError:
        return _no_date(text)


def _no_date(text: str) -> date:
    raise ValueError(f"{text[:40]!r} is no date like 2026-03-31")
