"""The chain of the audit: what is hashed, and the walk that finds the first place where it is broken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import (
    AuditActorRow,
    AuditCheckpointRow,
    AuditHeadRow,
    AuditProposalRow,
    AuditRow,
)
from beamhub_core.word import canonical_json

GENESIS = "0" * 64
"""The digest before the first entry."""
BATCH = 1_000
ERASED_KIND, PRUNED_KIND = "erasure", "prune"
How = Literal["changed", "missing", "reordered", "inserted", "cut", "index", "actor", "checkpoint"]


class Entry(Protocol):
    """The columns of an entry."""

    seq: Any
    at: Any
    kind: Any
    actor_kind: Any
    actor: Any
    about: Any
    subject: Any
    detail: Any
    proposals: Any
    reference: Any
    previous: Any


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the chain, to be kept where nobody who can write the database can write."""

    seq: int
    digest: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The first broken place, how it is broken, and in words."""

    seq: int
    how: How
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a walk found; `first` and `last` are the entries that stand, 0 where there is none."""

    first: int
    last: int
    n_entries: int
    head: Mark
    fault: Fault | None


def entry_digest(entry: Entry, seq: int | None = None) -> str:
    """SHA-256 of everything an entry says, its place and the digest before it, 64 hexadecimal digits.

    The text is JSON with sorted keys, instants in UTC to the microsecond and null for what is absent.
    """
    told = {
        "v": 1,
        "seq": entry.seq if seq is None else seq,
        "at": _instant(entry.at),
        "kind": entry.kind,
        "actor_kind": entry.actor_kind,
        "actor": entry.actor,
        "about": entry.about,
        "subject": entry.subject,
        "detail": entry.detail,
        "proposals": entry.proposals,
        "reference": entry.reference,
        "previous": entry.previous,
    }
    return hashlib.sha256(canonical_json(told)).hexdigest()


def actor_digest(salt: str, kind: str, name: str) -> str:
    """The pseudonym of somebody: without the salt it says nothing, with it nothing else fits."""
    return hashlib.sha256(canonical_json(["beamhub audit actor", salt, kind, name])).hexdigest()[:32]


def head_of(session: Session) -> Mark:
    """The end of the chain as the head row tells it."""
    row = session.get(AuditHeadRow, 1)
    return Mark(row.seq, row.digest) if row else Mark(0, GENESIS)


def verify(session: Session, expect: Mark | None = None) -> Verdict:
    """Walk the whole chain in bounded memory.

    Parameters
    ----------
    expect:
        A mark that was kept elsewhere. Without it nobody can see that the chain was cut at its end together
        with its head, or made anew from some place on.
    """
    if session.get_bind().dialect.name == "postgresql":
        # One snapshot for the walk: entries are appended meanwhile.
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    head = head_of(session)
    walk = _Walk(session, head, expect)
    fault = walk.run()
    return Verdict(walk.first, walk.at.seq if walk.n else 0, walk.n, head, fault)


class _Walk:
    """One pass from the last checkpoint to the head."""

    def __init__(self, session: Session, head: Mark, expect: Mark | None) -> None:
        self._session, self._head, self._expect = session, head, expect
        self._checkpoint = session.scalar(
            select(AuditCheckpointRow).order_by(AuditCheckpointRow.seq.desc()).limit(1)
        )
        start = self._checkpoint
        self.at = Mark(start.seq, start.digest) if start else Mark(0, GENESIS)
        self.first, self.n = 0, 0

    def run(self) -> Fault | None:
        """The first fault, None when everything holds."""
        start = self.at.seq
        if self._expect is not None and self._expect.seq < start:
            return Fault(self._expect.seq, "missing", "the kept mark lies before what retention left")
        if (found := self._on_mark()) is not None:
            return found
        for batch in _batches(self._session):
            if isinstance(batch, Fault):
                return batch
            for row in batch:
                if (found := self._step(row)) is not None:
                    return found
            if (found := self._index_fault(batch)) is not None:
                return found
        return (
            self._fault_at_end()
            or self._stray_index(start)
            or _actor_fault(self._session)
            or self._checkpoint_fault()
        )

    def _step(self, row: Row[Any]) -> Fault | None:
        expected = self.at.seq + 1
        if row.seq > self._head.seq:
            return Fault(row.seq, "inserted", "the entry stands behind the end that the head names")
        if row.seq < expected:
            return Fault(row.seq, "inserted", "the entry stands before the first one that retention left")
        if row.seq > expected:
            return Fault(expected, "missing", f"the next entry that is there is {row.seq}")
        if entry_digest(row) != row.digest:
            return self._on_wrong_digest(row)
        if row.previous != self.at.digest:
            return self._on_wrong_link(row)
        self.at, self.first, self.n = Mark(row.seq, row.digest), self.first or row.seq, self.n + 1
        return self._on_mark()

    def _on_mark(self) -> Fault | None:
        kept = self._expect
        if kept is not None and kept.seq == self.at.seq and kept.digest != self.at.digest:
            return Fault(self.at.seq, "changed", "this or an entry before it is not what was kept")
        return None

    def _on_wrong_digest(self, row: Row[Any]) -> Fault:
        """An entry that is not what its digest says: was it changed, or does it belong elsewhere?"""
        before = self._session.scalar(select(AuditRow.seq).where(AuditRow.digest == row.previous).limit(1))
        guesses = {before - 1, before, before + 1, before + 2} if before is not None else set()
        for origin in sorted(guesses | {row.seq - 1, row.seq + 1}):
            if origin == row.seq or entry_digest(row, origin) != row.digest:
                continue
            if origin < row.seq and row.previous == self.at.digest:
                return Fault(row.seq, "reordered", f"the entry was written as number {origin}")
            if origin < row.seq:
                return Fault(self.at.seq, "inserted", f"what follows was written as number {origin}")
            if before is None:
                return Fault(row.seq, "missing", f"in its place stands what was written as number {origin}")
            return Fault(row.seq, "reordered", f"the entry was written as number {origin}")
        after = self._session.execute(_columns().where(AuditRow.seq == row.seq + 1)).one_or_none()
        if after is not None and after.previous == self.at.digest:
            return Fault(row.seq, "inserted", "the entry after it follows on the one before it")
        return Fault(row.seq, "changed", "the entry is not what its digest says")

    def _on_wrong_link(self, row: Row[Any]) -> Fault:
        """An entry that is sound by itself and does not follow on the one before it: one of both is new."""
        after = self._session.execute(_columns().where(AuditRow.seq == row.seq + 1)).one_or_none()
        if self.n and (after is None or after.previous == row.digest):
            return Fault(self.at.seq, "changed", "the entry after it follows on another one")
        return Fault(row.seq, "changed", "the entry does not follow on the one before it")

    def _fault_at_end(self) -> Fault | None:
        if self.at.seq < self._head.seq:
            return Fault(self.at.seq + 1, "cut", f"the chain goes on to {self._head.seq}, its entries do not")
        if self.at.digest != self._head.digest:
            return Fault(self.at.seq, "changed", "the last entry is not the one that the head names")
        if self._expect is not None and self._expect.seq > self.at.seq:
            return Fault(self.at.seq + 1, "cut", f"entry {self._expect.seq} was kept elsewhere, and is gone")
        return None

    def _index_fault(self, batch: list[Row[Any]]) -> Fault | None:
        first, last = batch[0].seq, batch[-1].seq
        rows = self._session.execute(
            select(AuditProposalRow.seq, AuditProposalRow.proposal).where(
                AuditProposalRow.seq.between(first, last)
            )
        )
        found = {(seq, proposal) for seq, proposal in rows}
        told = {(row.seq, proposal) for row in batch for proposal in row.proposals}
        wrong = found ^ told
        return _index_differs(min(seq for seq, _ in wrong)) if wrong else None

    def _stray_index(self, start: int) -> Fault | None:
        stray = self._session.scalar(
            select(AuditProposalRow.seq)
            .where((AuditProposalRow.seq <= start) | (AuditProposalRow.seq > self.at.seq))
            .limit(1)
        )
        return _index_differs(stray) if stray is not None else None

    def _checkpoint_fault(self) -> Fault | None:
        """What retention removed is told by the chain itself, so nobody removes the front without a trace."""
        kept = self._checkpoint
        if kept is None:
            return None
        told = self._session.get(AuditRow, kept.told_in)
        facts = {"through": kept.seq, "digest": kept.digest, "n_entries": kept.n_entries}
        if told is None or told.kind != PRUNED_KIND or told.at != kept.removed_at:
            return Fault(kept.seq, "checkpoint", "no entry tells of what was removed up to here")
        if {name: told.detail.get(name) for name in facts} != facts:
            return Fault(kept.seq, "checkpoint", f"entry {kept.told_in} tells otherwise of what was removed")
        return None


def _index_differs(seq: int) -> Fault:
    return Fault(seq, "index", "the proposals that the entry names and those it is found by differ")


def _actor_fault(session: Session) -> Fault | None:
    """Whether every pseudonym stands for whom it was made for, or was erased as the chain tells."""
    for row in session.scalars(select(AuditActorRow).order_by(AuditActorRow.actor)).yield_per(BATCH):
        if row.name is not None and row.salt is not None:
            if row.erased_by is not None or actor_digest(row.salt, row.kind, row.name) != row.actor:
                return Fault(0, "actor", f"the pseudonym {row.actor} was given to somebody else")
        elif row.erased_by is None or row.name is not None or row.salt is not None:
            return Fault(0, "actor", f"the pseudonym {row.actor} was emptied without an erasure")
        elif not _tells_of_erasure(session, row.erased_by, row.actor):
            return Fault(row.erased_by, "actor", f"the entry does not tell of the erasure of {row.actor}")
    known = select(AuditActorRow.actor)
    for column in (AuditRow.actor, AuditRow.about):
        lost = session.scalar(select(AuditRow.seq).where(column.is_not(None), column.not_in(known)).limit(1))
        if lost is not None:
            return Fault(lost, "actor", "whom the entry speaks of was removed without an erasure")
    return None


def _tells_of_erasure(session: Session, seq: int, actor: str) -> bool:
    row = session.get(AuditRow, seq)
    if row is None:  # an entry that retention removed; a gap would have been found before
        return True
    return row.kind == ERASED_KIND and actor in row.detail.get("actors", ())


def _columns() -> Any:
    return select(*AuditRow.__table__.columns)


def _batches(session: Session) -> Iterator[list[Row[Any]] | Fault]:
    last, size = -1, BATCH
    while True:
        query = _columns().where(AuditRow.seq > last).order_by(AuditRow.seq).limit(size)
        try:
            rows = list(session.execute(query))
        except ValueError:  # a value that is no JSON or no time any more: look for it one by one
            if size == 1:
                seq = session.scalar(select(AuditRow.seq).where(AuditRow.seq > last).order_by(AuditRow.seq))
                yield Fault(seq or 0, "changed", "the entry cannot be read")
                return
            size = 1
            continue
        if not rows:
            return
        yield rows
        last = rows[-1].seq


def _instant(when: datetime) -> str:
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
