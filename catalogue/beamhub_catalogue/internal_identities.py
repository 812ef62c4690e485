"""Linked identities over the internal API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import HTTPException, Path

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.grants import refusal
from beamhub_catalogue.internal_refusals import refused_answer
from beamhub_catalogue.sign_ins import (
    LinkRefused,
    TargetUnknown,
    link_identity,
    sign_in_answer,
    unlink_identity,
)
from beamhub_catalogue.texts import is_storable
from beamhub_core.identity import ACCOUNT_PATTERN, account_name
from beamhub_core.linked_identity import IdentityAnswer, IdentityToLink
from beamhub_core.rights import Refused

Account = Annotated[str, Path(pattern=ACCOUNT_PATTERN)]


class InternalIdentities:
    """The handlers; each is a plain function that runs in a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def get(self, account: Account) -> IdentityAnswer:
        """As whom an account's identity signs in."""
        with self._desk.database.reading() as session:
            return sign_in_answer(session, account)

    def put(self, account: Account, identity: IdentityToLink) -> Any:
        """Let an identity sign in as another account; telling it twice is telling it once."""
        if account_name(identity.issuer, identity.subject) != account:
            raise HTTPException(422, "The account is not that of this issuer and subject.")
        if not all(map(is_storable, (identity.issuer, identity.subject))):
            raise HTTPException(422, "The identity holds a text that no database keeps.")
        try:
            with self._desk.database.writing() as session:
                link_identity(session, identity, self._desk.clock(), self._desk.wall_clock())
        except TargetUnknown as error:
            raise HTTPException(404, str(error)) from None
        except LinkRefused as error:
            return refused_answer(Refused(refusal("bad_request", account, error.reason)), 409)
        return None

    def delete(self, account: Account) -> None:
        """Let an identity sign in as its own account again."""
        with self._desk.database.writing() as session:
            unlink_identity(session, account, self._desk.clock())
