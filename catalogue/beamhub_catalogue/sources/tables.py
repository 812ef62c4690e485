"""The three tables of a user office as rows of text, and what they say: one judge for all kinds of office."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar, get_args

from beamhub_catalogue.sources.contract import (
    MemberEntry,
    ProposalEntry,
    SourceProblem,
    SourceReading,
    StaffEntry,
)
from beamhub_core.rights import ProposalRole

PROPOSAL_COLUMNS = ("proposal", "title", "class", "instrument", "start", "end", "access_route")
PERSON_COLUMNS = ("issuer", "subject", "orcid", "facility_account", "name")
MEMBER_COLUMNS = ("proposal", *PERSON_COLUMNS, "role", "from", "until")
STAFF_COLUMNS = ("instrument", *PERSON_COLUMNS, "from", "until")
MAX_FIELD_CHARS = 4_000
# What the tables hold of a field that is shorter than the rest.
MAX_CHARS = {
    "class": 80,
    "access_route": 80,
    "instrument": 200,
    "issuer": 512,
    "subject": 512,
    "facility_account": 64,
}
# These name a person to the letter: nothing is trimmed, so that nobody becomes somebody else.
EXACT_COLUMNS = ("issuer", "subject", "facility_account")
MAX_PROBLEMS = 200
MAX_NAMED = 10

_Entry = TypeVar("_Entry", MemberEntry, StaffEntry)
_PROPOSAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ORCID = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

Row = tuple[int, dict[str, str]]
"""The line of a row, and its fields by the name of their column; a column that is not there is empty."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one table; `file` and `word` say where they stand: 'members.csv' and 'line'."""

    file: str
    word: str
    rows: Iterable[Row] = ()


class _Problems:
    """The first problems, and the number of all."""

    def __init__(self) -> None:
        self.first: list[SourceProblem] = []
        self.count = 0

    def add(self, table: Table, line: int | None, reason: str) -> None:
        self.count += 1
        if self.count <= MAX_PROBLEMS:
            self.first.append(SourceProblem(table.file, line, reason))


def reading_of(proposals: Table, members: Table, staff: Table) -> SourceReading:
    """What the tables say.

    A row with a wrong value is reported and gives nobody a right: a proposal's stays closed, another is left
    out. Rows that overlap are reported and all stay.
    """
    problems = _Problems()
    told = _proposals(proposals, problems)
    people = _members(members, problems, known=set(told))
    in_charge = _staff(staff, problems)
    reading = SourceReading(tuple(told.values()), tuple(people), tuple(in_charge))
    _report_gaps(reading, (proposals, members, staff), problems)
    return replace(reading, problems=tuple(problems.first), n_problems=problems.count)


def unfit_fields(values: Collection[str]) -> str | None:
    """Why a row holds what no office would write, so that its whole table is not trusted."""
    if max(map(len, values), default=0) > MAX_FIELD_CHARS or "\0" in "".join(values):
        return f"a field is longer than {MAX_FIELD_CHARS} or holds a zero"
    return None


def _trimmed(row: dict[str, str]) -> dict[str, str]:
    return {name: cell if name in EXACT_COLUMNS else cell.strip() for name, cell in row.items()}


def _unfit(row: dict[str, str]) -> str | None:
    """Why a field cannot be taken as it stands."""
    for name, limit in MAX_CHARS.items():
        if len(row.get(name, "")) > limit:
            return f"the {name} is longer than {limit} characters"
    for name in EXACT_COLUMNS:
        value = row.get(name, "")
        if value and value.strip() != value:
            return f"the {name} begins or ends with a space"
    return None


def _proposals(table: Table, problems: _Problems) -> dict[str, ProposalEntry]:
    found: dict[str, ProposalEntry] = {}
    lines: dict[str, int] = {}
    for line, raw in table.rows:
        row = _trimmed(raw)
        proposal = row["proposal"]
        if not _PROPOSAL_ID.fullmatch(proposal):
            problems.add(table, line, f"{proposal[:80]!r} is no proposal id; left out")
            continue
        entry = _proposal(row)
        if isinstance(entry, str):
            problems.add(table, line, f"{entry}; {proposal} stays closed")
            entry = ProposalEntry(proposal, row["title"], None, row["instrument"][:200], None, None)
        if found.get(proposal, entry) != entry:
            first = f"{table.word} {lines[proposal]}"
            problems.add(table, line, f"contradicts {first} about {proposal}, which stays closed")
            entry = ProposalEntry(proposal, found[proposal].title, None, entry.instrument, None, None)
        found[proposal] = entry
        lines.setdefault(proposal, line)
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
    route = row.get("access_route", "")
    return ProposalEntry(row["proposal"], row["title"], row["class"], row["instrument"], start, end, route)


def _members(table: Table, problems: _Problems, *, known: set[str]) -> list[MemberEntry]:
    entries: list[tuple[int, MemberEntry]] = []
    for line, raw in table.rows:
        entry = _member(_trimmed(raw))
        if isinstance(entry, str):
            problems.add(table, line, f"{entry}; left out")
            continue
        if entry.proposal not in known:
            problems.add(table, line, f"the proposal {entry.proposal!r} is not known")
        entries.append((line, entry))
    by_place: dict[object, list[tuple[int, MemberEntry]]] = defaultdict(list)
    for line, entry in entries:
        by_place[entry.proposal, entry.identity].append((line, entry))
    for same in by_place.values():
        _report_overlaps(same, table, problems, _against)
    return list(dict.fromkeys(entry for _, entry in entries))


def _against(one: MemberEntry, other: MemberEntry) -> str:
    return "" if one.role == other.role else f"{other.role} against {one.role}"


def _member(row: dict[str, str]) -> MemberEntry | str:
    if not _PROPOSAL_ID.fullmatch(row["proposal"]):
        return f"{row['proposal'][:80]!r} is no proposal id"
    role = next((r for r in get_args(ProposalRole) if r == row["role"]), None)
    if role is None:
        return f"the role {row['role'][:40]!r} is none of {', '.join(get_args(ProposalRole))}"
    person = _person(row)
    if isinstance(person, str):
        return person
    return MemberEntry(row["proposal"], *person[:4], row["name"], role, *person[4:])


def _staff(table: Table, problems: _Problems) -> list[StaffEntry]:
    entries: list[tuple[int, StaffEntry]] = []
    for line, raw in table.rows:
        row = _trimmed(raw)
        person = _person(row) if row["instrument"] else "the instrument is empty"
        if isinstance(person, str):
            problems.add(table, line, f"{person}; left out")
            continue
        entries.append((line, StaffEntry(row["instrument"], *person[:4], row["name"], *person[4:])))
    by_place: dict[object, list[tuple[int, StaffEntry]]] = defaultdict(list)
    for line, entry in entries:
        by_place[entry.instrument, entry.identity].append((line, entry))
    for same in by_place.values():
        _report_overlaps(same, table, problems, lambda one, other: "")
    return list(dict.fromkeys(entry for _, entry in entries))


_Person = tuple[str | None, str | None, str | None, str | None, date | None, date | None]


def _person(row: dict[str, str]) -> _Person | str:
    """The identities of a row and its days, or why it names nobody."""
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
    if (issuer is None) != (subject is None):
        return "issuer and subject stand only together"
    if orcid is not None and not _ORCID.fullmatch(orcid):
        return f"{orcid[:40]!r} is no ORCID"
    if issuer is None and orcid is None and account is None:
        return "no identity says who this is"
    if since and until and until < since:
        return f"ends on {until}, before it begins on {since}"
    return issuer, subject, orcid, account, since, until


def _report_overlaps(
    same: list[tuple[int, _Entry]],
    table: Table,
    problems: _Problems,
    against: Callable[[_Entry, _Entry], str],
) -> None:
    """Name rows of one person and place whose days overlap; all stay, the stronger role counts."""
    if len(same) < 2:
        return
    ordered = sorted(same, key=lambda item: item[1].since or date.min)
    line, one = ordered[0]  # of those so far, the one that reaches furthest
    for other_line, other in ordered[1:]:
        if (other.since or date.min) <= (one.until or date.max):
            roles = against(one, other)
            word = f"contradicts ({roles})" if roles else "repeats"
            problems.add(table, other_line, f"{word} {table.word} {line} for some days")
        if (other.until or date.max) > (one.until or date.max):
            line, one = other_line, other


def _report_gaps(reading: SourceReading, tables: tuple[Table, Table, Table], problems: _Problems) -> None:
    """Name, a few for all, what an office forgot: rights that nobody has, and people in charge of nothing."""
    proposals, _, staff = tables
    peopled = {member.proposal for member in reading.members}
    led = {member.proposal for member in reading.members if member.role == "pi"}
    leaderless_ids = peopled - led
    named = {proposal.instrument for proposal in reading.proposals}
    empty = [p.id for p in reading.proposals if p.id not in peopled]
    leaderless = [p.id for p in reading.proposals if p.id in leaderless_ids]
    idle = dict.fromkeys(entry.instrument for entry in reading.staff if entry.instrument not in named)
    for table, names, words in (
        (proposals, empty, "proposal(s) without any member"),
        (proposals, leaderless, "proposal(s) with members, but without a principal investigator"),
        (staff, list(idle), "instrument(s) of the staff that no proposal names"),
    ):
        if names:
            shown = ", ".join(name[:80] for name in names[:MAX_NAMED])
            more = ", ..." if len(names) > MAX_NAMED else ""
            problems.add(table, None, f"{len(names)} {words}: {shown}{more}")


def _date(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else _no_date(text)
    except ValueError:
        return _no_date(text)


def _no_date(text: str) -> date:
    raise ValueError(f"{text[:40]!r} is no date like 2026-03-31")
