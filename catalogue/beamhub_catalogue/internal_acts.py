"""Acts upon proposals over the internal API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query, Request, Response

from beamhub_catalogue.act_making import acts_upon, make_act, take_back
from beamhub_catalogue.acts import ActConflict, ActNotAllowed, told
from beamhub_catalogue.audit import Context
from beamhub_catalogue.audit_acts import record_act
from beamhub_catalogue.callers import Client, check_scope
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.grants import refusal
from beamhub_catalogue.internal_refusals import person_of, refused_answer
from beamhub_catalogue.models import ActRow, ProposalRow
from beamhub_catalogue.texts import is_storable
from beamhub_core.acts import ProposalAct
from beamhub_core.audit_notice import AccountName
from beamhub_core.identity import ACCOUNT_PATTERN
from beamhub_core.rights import Refused
from beamhub_core.word import Word

ActId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
ProposalId = Annotated[str, Path(min_length=1, max_length=200)]
Acting = Annotated[str | None, Query(pattern=ACCOUNT_PATTERN)]
SCOPE = "acts:write"


class ActToMake(Word):
    """An act, and the account that makes it; without one, the calling process does, as an operator."""

    act: ProposalAct
    account: AccountName | None = None


class ActView(Word):
    """An act with what became of it."""

    act: ProposalAct
    made_by: str
    made_at: datetime
    revoked_by: str | None
    revoked_at: datetime | None


class InternalActs:
    """The handlers; each is a plain function that runs in a thread."""

    def __init__(self, desk: Desk, clients: tuple[Client, ...]) -> None:
        self._desk, self._clients = desk, clients

    def put(self, request: Request, act_id: ActId, body: ActToMake, response: Response) -> Any:
        """Make an act; telling the same act twice is telling it once."""
        if body.act.id != act_id:
            raise HTTPException(422, "The act has another id than its address.")
        self._desk.rules.refresh()
        try:
            with self._desk.database.writing() as session:
                catalogue = self._desk.catalogue(
                    session, person_of(session, body.account) if body.account else None
                )
                if make_act(catalogue, body.act):
                    row = session.get_one(ActRow, act_id)
                    record_act(session, "act", row, catalogue.now, by=self._by(request, body.account))
                    response.status_code = 201
        except ActConflict as error:
            raise HTTPException(409, str(error)) from None
        except ActNotAllowed as error:
            return refused_answer(Refused(refusal("not_a_member", body.act.proposal, error.reason)))
        except Refused as refused:
            return refused_answer(refused)
        return None

    def revoke(self, request: Request, act_id: ActId, account: Acting = None) -> Any:
        """Take an act back, as the account may or, without one, as an operator; again, it changes nothing."""
        self._desk.rules.refresh()
        try:
            with self._desk.database.writing() as session:
                catalogue = self._desk.catalogue(session, person_of(session, account) if account else None)
                found = take_back(catalogue, act_id)
                if found is None:
                    raise HTTPException(404, "No such act.")
                row, stood = found
                if stood:
                    record_act(session, "act_revoked", row, catalogue.now, by=self._by(request, account))
        except ActNotAllowed as error:
            return refused_answer(Refused(refusal("not_a_member", act_id, error.reason)))
        except Refused as refused:
            return refused_answer(refused)
        return Response(status_code=204)

    def _by(self, request: Request, account: str | None) -> Context | str:
        """Who acts: the account, or the process that calls."""
        return account or Context(service=check_scope(request, self._clients, SCOPE).name)

    def list(self, proposal: ProposalId) -> list[ActView]:
        """All acts upon a proposal, in the order in which they were made."""
        with self._desk.database.reading() as session:
            if not is_storable(proposal) or session.get(ProposalRow, proposal) is None:
                raise HTTPException(404, "No such proposal.")
            return [act_view(row) for row in acts_upon(session, proposal)]


def act_view(row: ActRow) -> ActView:
    """A row as the word that travels."""
    return ActView(
        act=told(row),
        made_by=row.made_by,
        made_at=row.made_at,
        revoked_by=row.revoked_by,
        revoked_at=row.revoked_at,
    )
