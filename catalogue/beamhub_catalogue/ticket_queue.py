"""The queue for a session that does not fit now: first come, first served, fair between people.

A person's first place in the queue is never passed by anybody. A second one of the same person comes after
the first ones of all who waited when it was taken: its `turn` is one higher. Turns are kept with the rows,
so the order survives a restart; nothing here starts anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Protocol

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from beamhub_catalogue.grants import refusal
from beamhub_catalogue.models import QueueTicketRow, SessionRow
from beamhub_catalogue.rooms import Room, seat
from beamhub_core.config.limits import QueueConfig
from beamhub_core.queue import TicketAnswer, TicketWanted
from beamhub_core.rights import Refused

CLAIM_LIFETIME = timedelta(seconds=60)
"""After this a start that was asked for, and of which no plan came, counts as not asked."""
MAX_CLAIMS = 5
SHOW_REFUSED = timedelta(hours=1)
HISTORY = timedelta(days=30)
MIN_ENDED, MAX_ENDED = 5, 500


class Waiting(Protocol):
    """What of a ticket its order needs."""

    @property
    def account(self) -> str:
        """Whose it is."""
        ...

    @property
    def turn(self) -> int:
        """The lower, the sooner."""
        ...


def turn_of_next(waiting: Iterable[Waiting], account: str) -> int:
    """The turn of a new ticket. Pure.

    The first of a person joins the present turn, which is the lowest that waits; each further one comes one
    turn after that person's last.
    """
    waiting = list(waiting)
    present = min((ticket.turn for ticket in waiting), default=0)
    own = [ticket.turn + 1 for ticket in waiting if ticket.account == account]
    return max([present, *own])


def waiting_tickets(session: Session, now: datetime) -> list[QueueTicketRow]:
    """Everybody who waits, the next first."""
    query = select(QueueTicketRow).where(QueueTicketRow.reason.is_(None), QueueTicketRow.expires_at > now)
    return list(session.scalars(query.order_by(QueueTicketRow.turn, QueueTicketRow.id)))


def find_ticket(session: Session, account: str, server_name: str) -> QueueTicketRow | None:
    """The ticket of a server, also one whose start was refused; None where there is none."""
    return session.scalar(
        select(QueueTicketRow).where(
            QueueTicketRow.account == account, QueueTicketRow.server_name == server_name
        )
    )


def take_ticket(session: Session, wanted: TicketWanted, config: QueueConfig, now: datetime) -> QueueTicketRow:
    """A place in the queue; who has one for this server keeps it, with the newer wish.

    Raises
    ------
    Refused
        Code `full` when the queue is full, `over_quota` when the person holds as many places as one may.
    """
    found = find_ticket(session, wanted.account, wanted.server_name)
    if found is not None and (found.reason is not None or found.expires_at <= now):
        session.delete(found)
        session.flush()
        found = None
    if found is not None:
        found.request = wanted.request.model_dump(mode="json")
        found.places, found.claimed_at = sorted(wanted.places), None
        found.memory_gib, found.gpus = wanted.limits.memory_gib, wanted.limits.gpus
        return found
    waiting = waiting_tickets(session, now)
    own = [ticket for ticket in waiting if ticket.account == wanted.account]
    if len(own) >= config.max_per_person:
        said = f"You wait for {len(own)} sessions, the most allowed. Leave the queue with one first."
        raise Refused(refusal("over_quota", "queue", said))
    if len(waiting) >= config.max_waiting:
        raise Refused(refusal("full", "queue", "Everything is in use, and the queue is full. Try later."))
    row = QueueTicketRow(
        account=wanted.account,
        server_name=wanted.server_name,
        display_name=wanted.display_name,
        request=wanted.request.model_dump(mode="json"),
        places=sorted(wanted.places),
        memory_gib=wanted.limits.memory_gib,
        gpus=wanted.limits.gpus,
        turn=turn_of_next(waiting, wanted.account),
        joined_at=now,
        expires_at=now + timedelta(hours=config.ticket_lifetime_h),
        n_claims=0,
    )
    session.add(row)
    session.flush()
    return row


def answer_of(
    session: Session, row: QueueTicketRow, capacities: Mapping[str, int], now: datetime
) -> TicketAnswer:
    """Where a waiting ticket stands, and for how long that usually is."""
    position = 1
    for other in waiting_tickets(session, now):
        if other.id == row.id:
            break
        position += bool(set(other.places) & set(row.places))
    n_slots = sum(capacities.get(place, 0) for place in row.places)
    wait_s = usual_wait_s(_lifetimes_s(session, row.places, now), position, n_slots)
    return TicketAnswer(position=position, usual_wait_s=wait_s, expires_at=row.expires_at)


def usual_wait_s(lifetimes_s: Sequence[float], position: int, n_slots: int) -> float | None:
    """What one may expect to wait. Pure; None where too few sessions ended to say.

    While all slots are taken, one frees after each (usual lifetime / slots), and the ticket at position n
    gets the n-th of them.
    """
    if len(lifetimes_s) < MIN_ENDED or n_slots < 1:
        return None
    return position * median(lifetimes_s) / n_slots


def _lifetimes_s(session: Session, places: Sequence[str], now: datetime) -> list[float]:
    query = (
        select(SessionRow.created_at, SessionRow.ended_at)
        .where(
            SessionRow.state == "ended",
            SessionRow.place.in_(places),
            SessionRow.ended_at.is_not(None),
            SessionRow.ended_at > now - HISTORY,
        )
        .order_by(SessionRow.ended_at.desc())
        .limit(MAX_ENDED)
    )
    return [
        (ended - created).total_seconds()
        for created, ended in session.execute(query)
        if ended is not None and ended > created
    ]


def claim_next(session: Session, rooms: Mapping[str, Room], now: datetime) -> list[QueueTicketRow]:
    """The tickets whose turn it is now, each claimed for whoever asks; others must not start them meanwhile.

    A ticket that was claimed already keeps its room until its session is there. A claim of which no session
    came counts no more after `CLAIM_LIFETIME`, and after `MAX_CLAIMS` of them the ticket is refused.
    """
    waiting = waiting_tickets(session, now)
    for ticket in waiting:
        if ticket.n_claims >= MAX_CLAIMS and not _is_claimed(ticket, now):
            refuse_ticket(ticket, "It could not be started after several tries. Start it again.", now)
    waiting = [ticket for ticket in waiting if ticket.reason is None]
    seats, _ = seat(waiting, rooms)
    claimed = []
    for ticket, place in zip(waiting, seats, strict=True):
        if place is not None and not _is_claimed(ticket, now):
            ticket.claimed_at, ticket.n_claims = now, ticket.n_claims + 1
            claimed.append(ticket)
    return claimed


def _is_claimed(ticket: QueueTicketRow, now: datetime) -> bool:
    return ticket.claimed_at is not None and ticket.claimed_at > now - CLAIM_LIFETIME


def refuse_ticket(ticket: QueueTicketRow, reason: str, now: datetime) -> None:
    """End a ticket whose start was refused; the reason stays for its page for a while."""
    ticket.reason, ticket.claimed_at = reason, None
    ticket.expires_at = now + SHOW_REFUSED


def unclaim(ticket: QueueTicketRow, *, count: bool) -> None:
    """The start did not come about: the ticket waits again where it was."""
    ticket.claimed_at = None
    if not count:
        ticket.n_claims = max(0, ticket.n_claims - 1)


def drop_ticket(session: Session, account: str, server_name: str) -> bool:
    """Leave the queue; whether there was a ticket."""
    found = find_ticket(session, account, server_name)
    if found is not None:
        session.delete(found)
    return found is not None


def drop_tickets_of(session: Session, accounts: Iterable[str]) -> int:
    """Drop all tickets of people who logged out or whose account ended; how many there were."""
    result = session.execute(delete(QueueTicketRow).where(QueueTicketRow.account.in_(tuple(accounts))))
    return int(result.rowcount)  # type: ignore[attr-defined]  # a delete gives a CursorResult


def drop_expired(session: Session, now: datetime) -> int:
    """Drop what is past its time; how many there were."""
    result = session.execute(delete(QueueTicketRow).where(QueueTicketRow.expires_at <= now))
    return int(result.rowcount)  # type: ignore[attr-defined]  # a delete gives a CursorResult
