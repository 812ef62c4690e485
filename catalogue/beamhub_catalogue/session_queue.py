"""The queue as pages show it and as the process uses it that starts whose turn it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from beamhub_catalogue.admission import live_use, rooms_now
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import QueueTicketRow
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.ticket_queue import (
    answer_of,
    claim_next,
    drop_expired,
    drop_ticket,
    drop_tickets_of,
    find_ticket,
    refuse_ticket,
    unclaim,
    waiting_tickets,
)
from beamhub_core.session import SessionRequest


@dataclass(frozen=True, slots=True)
class TicketView:
    """Where a person's wish for one server stands; `reason` says why it will not be started."""

    server_name: str
    display_name: str
    position: int
    usual_wait_s: float | None
    joined_at: datetime
    expires_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A server to start now, for whoever waited for it."""

    account: str
    server_name: str
    display_name: str
    request: SessionRequest


class SessionQueue:
    """All methods are synchronous, thread-safe, and mean the same in every process on the database."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def room_freed(self) -> threading.Event:
        """Set in this process when there may be room."""
        return self._desk.room_freed

    def tickets_of(self, account: str) -> tuple[TicketView, ...]:
        """What a person waits for, the next first, then what was refused."""
        with self._desk.database.reading() as session:
            now = self._desk.clock()
            own = [ticket for ticket in waiting_tickets(session, now) if ticket.account == account]
            views = [self._view(ticket, session, now) for ticket in own]
        return tuple(views)

    def ticket(self, account: str, server_name: str) -> TicketView | None:
        """The ticket of one server; None where there is none that counts or tells something."""
        with self._desk.database.reading() as session:
            row, now = find_ticket(session, account, server_name), self._desk.clock()
            return self._view(row, session, now) if row is not None and row.expires_at > now else None

    def _view(self, row: QueueTicketRow, session: Session, now: datetime) -> TicketView:
        capacities = {place.name: place.capacity for place in self._desk.config.sessions.places}
        stands = answer_of(session, row, capacities, now) if row.reason is None else None
        return TicketView(
            server_name=row.server_name,
            display_name=row.display_name,
            position=stands.position if stands is not None else 0,
            usual_wait_s=stands.usual_wait_s if stands is not None else None,
            joined_at=row.joined_at,
            expires_at=row.expires_at,
            reason=row.reason,
        )

    def leave(self, account: str, server_name: str) -> None:
        """Leave the queue for one server; no error without a ticket."""
        with self._desk.database.writing() as session:
            drop_ticket(session, account, server_name)
        self.room_freed.set()

    def has_waiting(self) -> bool:
        """Whether anybody waits; cheap, for who looks often."""
        with self._desk.database.reading() as session:
            return bool(waiting_tickets(session, self._desk.clock()))

    def claim_turns(self) -> tuple[Turn, ...]:
        """The servers to start now; nobody else starts them for a minute.

        Tickets past their time, and of accounts whose rights ended, are dropped on the way.
        """
        with self._desk.database.writing() as session:
            now, sessions = self._desk.clock(), self._desk.config.sessions
            drop_expired(session, now)
            accounts = {ticket.account for ticket in waiting_tickets(session, now)}
            gone = [account for account in accounts if find_principal(session, account) is None]
            drop_tickets_of(session, gone)
            claimed = claim_next(session, rooms_now(live_use(session), sessions), now)
            return tuple(
                Turn(
                    row.account, row.server_name, row.display_name, SessionRequest.model_validate(row.request)
                )
                for row in claimed
            )

    def started(self, turn: Turn) -> None:
        """The server runs already: nothing is waited for."""
        self.leave(turn.account, turn.server_name)

    def refused(self, turn: Turn, reason: str) -> None:
        """The hub will not start it: the ticket ends, and its page says why."""
        with self._desk.database.writing() as session:
            row = find_ticket(session, turn.account, turn.server_name)
            if row is not None:
                refuse_ticket(row, reason, self._desk.clock())

    def put_back(self, turn: Turn, *, count: bool = True) -> None:
        """The start did not come about: the ticket waits again where it was."""
        with self._desk.database.writing() as session:
            row = find_ticket(session, turn.account, turn.server_name)
            if row is not None:
                unclaim(row, count=count)


def _turn(row: QueueTicketRow) -> Turn:
    request = SessionRequest.model_validate(row.request)
    return Turn(row.account, row.server_name, row.display_name, request)
