"""What the internal API says where the policy, or an account's state, says no."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from beamhub_catalogue.grants import refusal
from beamhub_catalogue.people import find_principal
from beamhub_core.identity import Principal
from beamhub_core.rights import Refused


def person_of(session: Session, account: str) -> Principal:
    """Who an account is, as the hub last said.

    Raises
    ------
    Refused
        `not_a_member` when nobody said, or the account's rights were ended.
    """
    person = find_principal(session, account)
    if person is None:
        raise not_known(account)
    return person


def not_known(account: str) -> Refused:
    """What an account is told that nobody said, or whose rights were ended."""
    return Refused(refusal("not_a_member", account, "This account is not logged in here. Log in again."))


def refused_answer(refused: Refused, status: int | None = None) -> JSONResponse:
    """A refusal as an answer: 404 for what one may not know, 403 otherwise, or the given status."""
    if status is None:
        status = 404 if refused.refusal.code == "not_found" else 403
    return JSONResponse({"refusal": refused.refusal.model_dump(mode="json")}, status_code=status)
