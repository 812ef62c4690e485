"""User offices in force: what they say now, in the tables of proposals, members and staff."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import SourceRow
from beamhub_catalogue.office_tables import (
    PeopleChanges,
    apply_changes,
    drop_sources_but,
    ensure_instruments,
    held_proposals,
    member_changes,
    staff_changes,
    store_proposals,
)
from beamhub_catalogue.sources import (
    CsvUserOffice,
    ProposalEntry,
    RestUserOffice,
    SourceBroken,
    SourceProblem,
    SourceReading,
    UserOffice,
)
from beamhub_catalogue.views import OfficeView
from beamhub_core.config.catalogue import UserOfficeConfig

log = logging.getLogger(__name__)

PREFIX = "user_office:"
MAX_PROBLEMS = 200
# Of every state that is kept: another number makes every office be read again, for rows mean more now.
FORMAT = "1"

_PROPOSALS = TypeAdapter(dict[str, ProposalEntry])


@dataclass(frozen=True, slots=True)
class OfficeNews:
    """What an office says under a fingerprint; None where the tables hold it already.

    `changes` are those to the tables' people, made before the write lock was taken: they hold while the
    tables have the `revision` and the zone that they were made from.
    """

    fingerprint: str
    outcome: SourceReading | SourceBroken | None
    changes: tuple[PeopleChanges, ...] = ()
    revision: str = ""
    zone: str = ""


class UserOffices:
    """The configured user offices, and how their answers become rows.

    `SourceRow.good` remembers of every office the fingerprint of the state that the tables hold, the zone
    that its days were read in, its problems, and its own words on proposals that another office tells too:
    an office that is broken or unchanged takes part in everything without being read again.
    """

    def __init__(self, configs: tuple[UserOfficeConfig, ...]) -> None:
        self._offices: dict[str, UserOffice] = {
            f"{PREFIX}{c.name}": CsvUserOffice(c) if c.kind == "csv" else RestUserOffice(c) for c in configs
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The names under which rows carry their source."""
        return tuple(self._offices)

    @property
    def intervals_s(self) -> dict[str, float]:
        """How long to wait between two polls of each office."""
        return {label: office.poll_interval_s for label, office in self._offices.items()}

    def resume(self, session: Session) -> None:
        """Tell the offices which states the tables hold, so that an unchanged one is not sent again."""
        for label, office in self._offices.items():
            row = session.get(SourceRow, label)
            if row is not None and row.good and "fingerprint" in row.good:
                office.resume(row.good["fingerprint"])

    def poll(self, labels: Iterable[str]) -> list[str]:
        """Ask these offices now; those that answered. May take each one's whole time limit."""
        return [label for label in labels if self._offices[label].poll()]

    def note_answers(self, session: Session, labels: Iterable[str], now: datetime) -> None:
        """Remember that these offices answered, whether or not they said anything new."""
        session.execute(update(SourceRow).where(SourceRow.name.in_(list(labels))).values(checked_at=now))

    def fingerprints(self) -> dict[str, str]:
        """Changes with whatever an office says; cheap."""
        return {label: office.fingerprint() for label, office in self._offices.items()}

    def read(self, database: Database, fingerprints: dict[str, str]) -> dict[str, OfficeNews]:
        """What the offices say that the tables do not hold yet; before anybody takes the write lock."""
        with database.reading() as session:
            rows = {label: session.get(SourceRow, label) for label in self._offices}
        outcomes = {
            label: None if _holds(rows[label], fingerprints[label]) else _read(label, office)
            for label, office in self._offices.items()
        }
        with database.reading() as session:
            return {
                label: _with_changes(session, label, OfficeNews(fingerprints[label], outcome))
                for label, outcome in outcomes.items()
            }

    def store(self, session: Session, news: dict[str, OfficeNews], zone: ZoneInfo, now: datetime) -> None:
        """Write what every office says now; of one that is broken, the last good state stays.

        Rows of offices that are no longer configured go.
        """
        rows = self._locked_rows(session)
        outcomes = {label: self._outcome(label, rows[label], news[label], zone) for label in self._offices}
        told = {
            label: {entry.id: entry for entry in outcome.proposals}
            if isinstance(outcome, SourceReading)
            else held_proposals(session, label) | _shared(rows[label])
            for label, outcome in outcomes.items()
        }
        merged, shared, contradictions = merge_proposals(told)
        store_proposals(session, merged, now)
        for label, outcome in outcomes.items():
            row, found = rows[label], contradictions[label]
            kept = dict(row.good or {}) | {"shared": _PROPOSALS.dump_python(shared[label], mode="json")}
            if isinstance(outcome, SourceReading):
                _store_people(session, row, news[label], outcome, zone, now)
                kept |= {"fingerprint": news[label].fingerprint, "zone": zone.key, "format": FORMAT}
                kept["revision"] = uuid4().hex
                kept["problems"] = _as_rows(outcome.problems, outcome.n_problems)
                row.read_at = row.checked_at = now
            row.good, row.fingerprint = kept, news[label].fingerprint
            if isinstance(outcome, SourceBroken):
                row.problems = _as_rows(outcome.problems) + found
            else:
                row.problems = kept.get("problems", []) + found
        drop_sources_but(session, self.labels)

    def _locked_rows(self, session: Session) -> dict[str, SourceRow]:
        """The rows that remember the offices, locked: who stores at the same time waits, then sees ours."""
        query = select(SourceRow).where(SourceRow.name.in_(self.labels)).order_by(SourceRow.name)
        rows = {row.name: row for row in session.scalars(query.with_for_update())}
        for label, office in self._offices.items():
            if label not in rows:
                rows[label] = source_row(session, label)
            if not rows[label].good:
                rows[label].good = {"kind": office.kind}
        return rows

    def _outcome(
        self, label: str, row: SourceRow, news: OfficeNews, zone: ZoneInfo
    ) -> SourceReading | SourceBroken | None:
        holds = _holds(row, news.fingerprint)
        if holds and (row.good or {}).get("zone") == zone.key:
            return None
        # The days of a state that is there already begin in another zone now; rare enough for the lock.
        return _read(label, self._offices[label]) if news.outcome is None else news.outcome


def source_row(session: Session, name: str) -> SourceRow:
    """The row that remembers a user office or the policy, made where there is none."""
    row = session.get(SourceRow, name)
    if row is None:
        row = SourceRow(name=name, fingerprint="", good=None, read_at=None, checked_at=None, problems=[])
        session.add(row)
    return row


def office_states(session: Session) -> tuple[OfficeView, ...]:
    """How every user office stands, by name; `ok` is whether the present state is what it said last."""
    rows = session.scalars(
        select(SourceRow).where(SourceRow.name.startswith(PREFIX, autoescape=True)).order_by(SourceRow.name)
    )
    return tuple(
        OfficeView(
            name=row.name.removeprefix(PREFIX),
            kind=(row.good or {}).get("kind", ""),
            read_at=row.read_at,
            checked_at=row.checked_at,
            ok=row.read_at is not None and _holds(row, row.fingerprint),
            n_problems=sum(problem.get("more", 1) for problem in row.problems),
        )
        for row in rows
    )


Merged = tuple[
    dict[str, tuple[str, ProposalEntry]], dict[str, dict[str, ProposalEntry]], dict[str, list[dict[str, Any]]]
]


def merge_proposals(told: dict[str, dict[str, ProposalEntry]]) -> Merged:
    """One proposal of many tales: the first source's, closed where another tells it differently.

    Returns
    -------
    The proposals with their source; by source, its own words on those that others tell too; and by source,
    the contradictions, each of which names all sources.
    """
    merged: dict[str, tuple[str, ProposalEntry]] = {}
    shared: dict[str, dict[str, ProposalEntry]] = defaultdict(dict)
    contradictions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    tellers: dict[str, list[str]] = defaultdict(list)
    for source, entries in told.items():
        for proposal in entries:
            tellers[proposal].append(source)
    for proposal, sources in tellers.items():
        entry = told[sources[0]][proposal]
        # A title is for people only; everything else decides about rights.
        tales = {replace(told[source][proposal], title="") for source in sources}
        if len(tales) > 1:
            entry = replace(entry, policy_class=None)
            reason = f"{proposal} is told differently by {' and '.join(sources)}: it stays closed"
            contradictions[sources[-1]].append({"file": sources[-1], "line": None, "reason": reason})
        for source in sources if len(sources) > 1 else ():
            shared[source][proposal] = told[source][proposal]
        merged[proposal] = (sources[0], entry)
    return merged, shared, defaultdict(list, {s: _bounded(found) for s, found in contradictions.items()})


def _read(label: str, office: UserOffice) -> SourceReading | SourceBroken:
    try:
        return office.read()
    except SourceBroken as error:
        log.warning("user office is broken", extra={"source": label, "reason": str(error)})
        return error


def _holds(row: SourceRow | None, fingerprint: str) -> bool:
    """Whether the tables hold the state of a fingerprint."""
    kept = (row.good if row is not None else None) or {}
    return kept.get("fingerprint") == fingerprint and kept.get("format") == FORMAT


def _shared(row: SourceRow) -> dict[str, ProposalEntry]:
    return _PROPOSALS.validate_python((row.good or {}).get("shared", {}))


def _with_changes(session: Session, label: str, news: OfficeNews) -> OfficeNews:
    """News with the changes that they make to the people as the tables hold them now."""
    row = session.get(SourceRow, label)
    kept = (row.good if row is not None else None) or {}
    if not isinstance(news.outcome, SourceReading) or "revision" not in kept:
        return news
    changes = _changes(session, label, news.outcome, ZoneInfo(kept["zone"]))
    return replace(news, changes=changes, revision=kept["revision"], zone=kept["zone"])


def _changes(
    session: Session, label: str, reading: SourceReading, zone: ZoneInfo
) -> tuple[PeopleChanges, ...]:
    return (
        member_changes(session, label, reading.members, zone),
        staff_changes(session, label, reading.staff, zone),
    )


def _store_people(
    session: Session,
    row: SourceRow,
    news: OfficeNews,
    reading: SourceReading,
    zone: ZoneInfo,
    now: datetime,
) -> None:
    is_fresh = (news.revision, news.zone) == ((row.good or {}).get("revision"), zone.key)
    usable = is_fresh and reading is news.outcome
    for changes in news.changes if usable else _changes(session, row.name, reading, zone):
        apply_changes(session, row.name, changes, now)
    named = [proposal.instrument for proposal in reading.proposals]
    named += [entry.instrument for entry in reading.staff]
    ensure_instruments(session, row.name, named, now)


def _as_rows(problems: tuple[SourceProblem, ...], count: int | None = None) -> list[dict[str, Any]]:
    return _bounded([asdict(problem) for problem in problems], count)


def _bounded(problems: list[dict[str, Any]], count: int | None = None) -> list[dict[str, Any]]:
    """The first problems, then how many more there are."""
    more = (len(problems) if count is None else count) - len(problems[:MAX_PROBLEMS])
    tail = {"file": "all", "line": None, "reason": f"and {more} more problems", "more": more}
    return [*problems[:MAX_PROBLEMS], *([tail] if more else [])]
