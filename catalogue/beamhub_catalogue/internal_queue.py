"""The part of the internal API about the queue: taking a place in it, and leaving it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import HTTPException, Path

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.internal_refusals import person_of, refused_answer
from beamhub_catalogue.texts import is_storable
from beamhub_catalogue.ticket_queue import answer_of, drop_tickets_of, find_ticket, take_ticket
from beamhub_core.identity import ACCOUNT_PATTERN
from beamhub_core.queue import TicketWanted
from beamhub_core.rights import Refused


class InternalQueue:
    """The handlers; each is a plain function that runs in a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def put(self, wanted: TicketWanted) -> Any:
        """A place in the queue for somebody whose start found no room."""
        texts = (wanted.server_name, wanted.display_name, *wanted.request.datasets)
        if not all(map(is_storable, texts)):
            raise HTTPException(422, "The ticket holds a text that no database keeps.")
        sessions, now = self._desk.config.sessions, self._desk.clock()
        try:
            with self._desk.database.writing() as session:
                person_of(session, wanted.account)
                is_new = find_ticket(session, wanted.account, wanted.server_name) is None
                row = take_ticket(session, wanted, sessions.queue, now)
                answer = answer_of(session, row, {one.name: one.capacity for one in sessions.places}, now)
        except Refused as refused:
            self._desk.metrics.refused("ticket", refused.refusal.code)
            return refused_answer(refused)
        if is_new:  # else the hub just said that there is no room: looking again at once would not end
            self._desk.room_freed.set()
        return answer

    def delete(self, account: Annotated[str, Path(pattern=ACCOUNT_PATTERN)]) -> None:
        """Drop the tickets of somebody who logged out."""
        with self._desk.database.writing() as session:
            drop_tickets_of(session, (account,))
