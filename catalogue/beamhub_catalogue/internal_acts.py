"""Acts upon proposals over the internal API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy.orm import Session

from beamhub_catalogue.act_making import acts_upon, make_act, take_back
from beamhub_catalogue.acts import ActConflict, ActNotAllowed, told
from beamhub_catalogue.audit import Context
from beamhub_catalogue.audit_acts import record_act
from beamhub_catalogue.callers import Client, check_scope
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.grants import refusal
from beamhub_catalogue.models import ActRow, ProposalRow
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.texts import is_storable
from beamhub_core.acts import ProposalAct
from beamhub_core.identity import Principal
from beamhub_core.rights import Refused
from beamhub_core.word import Word

ActId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
ProposalId = Annotated[str, Path(min_length=1, max_length=200)]
AccountName = Annotated[str, Field(pattern=r"^u-[a-z2-7]{26}$")]
Acting = Annotated[str | None, Query(pattern=r"^u-[a-z2-7]{26}$")]
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
                catalogue = self._desk.catalogue(session, _person(session, body.account))
                if make_act(catalogue, body.act):
                    row = session.get_one(ActRow, act_id)
                    record_act(session, "act", row, catalogue.now, by=self._by(request, body.account))
                    response.status_code = 201
        except ActConflict as error:
            raise HTTPException(409, str(error)) from None
        except ActNotAllowed as error:
            return _refused(Refused(refusal("not_a_member", body.act.proposal, error.reason)))
        except Refused as refused:
            return _refused(refused)
        return None

    def revoke(self, request: Request, act_id: ActId, account: Acting = None) -> Any:
        """Take an act back, as the account may or, without one, as an operator; again, it changes nothing."""
        self._desk.rules.refresh()
        try:
            with self._desk.database.writing() as session:
                catalogue = self._desk.catalogue(session, _person(session, account))
                found = take_back(catalogue, act_id)
                if found is None:
                    raise HTTPException(404, "No such act.")
                row, stood = found
                if stood:
                    record_act(session, "act_revoked", row, catalogue.now, by=self._by(request, account))
        except ActNotAllowed as error:
            return _refused(Refused(refusal("not_a_member", act_id, error.reason)))
        except Refused as refused:
            return _refused(refused)
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


def _person(session: Session, account: str | None) -> Principal | None:
    """Who acts; None for an operator."""
    person = find_principal(session, account) if account else None
    if account is not None and person is None:
        reason = "This account is not logged in here. Log in again."
        raise Refused(refusal("not_a_member", account, reason))
    return person


def act_view(row: ActRow) -> ActView:
    """A row as the word that travels."""
    return ActView(
        act=told(row),
        made_by=row.made_by,
        made_at=row.made_at,
        revoked_by=row.revoked_by,
        revoked_at=row.revoked_at,
    )


def _refused(refused: Refused) -> JSONResponse:
    status = 404 if refused.refusal.code == "not_found" else 403
    return JSONResponse({"refusal": refused.refusal.model_dump(mode="json")}, status_code=status)
