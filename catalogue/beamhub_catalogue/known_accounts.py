"""Which account an operator means."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import find_pseudonym
from beamhub_catalogue.models import IdentityRow, PrincipalRow
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import ACCOUNT_PATTERN, account_name

_ACCOUNT = re.compile(ACCOUNT_PATTERN)


class UnknownAccount(BeamhubError):
    """Nobody is known by this subject or account, or several are."""

    exit_code = 3

    def __init__(self, subject: str, found: tuple[str, ...]) -> None:
        super().__init__(subject, found)
        self.subject, self.found = subject, found

    def __str__(self) -> str:
        if self.found:
            named = ", ".join(self.found)
            return f"Several providers have a subject {self.subject!r}. Name one account: {named}."
        return f"Nobody is known here as {self.subject!r}. Name the provider's subject, or the account."


def find_account(session: Session, config: FacilityConfig, subject: str) -> str:
    """The account of a subject at any provider, or an account that is named itself.

    Raises
    ------
    UnknownAccount
        If there is none, or more than one.
    """
    if _ACCOUNT.fullmatch(subject):
        known = session.get(IdentityRow, subject) or session.get(PrincipalRow, subject)
        if known is not None or find_pseudonym(session, "person", subject) is not None:
            return subject
        raise UnknownAccount(subject, ())
    found = set(session.scalars(select(IdentityRow.account).where(IdentityRow.subject == subject)))
    for provider in config.login.providers:  # one that was known before identities were kept
        account = account_name(provider.issuer, subject)
        if session.get(PrincipalRow, account) is not None:
            found.add(account)
    if len(found) != 1:
        raise UnknownAccount(subject, tuple(sorted(found)))
    return found.pop()
