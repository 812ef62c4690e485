"""Persons as an operator names them on a command line, also those who never logged in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import IdentityRow, MemberRow, PrincipalRow, StaffRow
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.texts import is_storable
from beamhub_core.config.login import LoginConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import ACCOUNT_PATTERN, Principal, account_name

MAX_SUBJECT = 512
_ACCOUNT = re.compile(ACCOUNT_PATTERN)
_ORCID = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", re.ASCII)


class UnknownPerson(BeamhubError):
    """Neither a login nor a user office knows a person of this name."""

    exit_code = 3

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"Nobody called {self.name[:200]!r} has logged in, and no user office names such a person. Name "
            "the subject as the provider does, an account (u-...), an ORCID iD, or issuer and subject; leave "
            "--as away for an anonymous reader."
        )


class AmbiguousPerson(BeamhubError):
    """Several persons have this name."""

    exit_code = 2

    def __init__(self, name: str, accounts: Sequence[str]) -> None:
        super().__init__(name, tuple(accounts))
        self.name, self.accounts = name, tuple(accounts)

    def __str__(self) -> str:
        return f"{self.name[:200]!r} is several persons: name one of the accounts {', '.join(self.accounts)}."


class EndedAccount(BeamhubError):
    """The hub ended the rights of an account."""

    exit_code = 4

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account

    def __str__(self) -> str:
        return f"The rights of the account {self.account} were ended; it may do nothing until its next login."


def named_person(session: Session, login: LoginConfig, words: Sequence[str]) -> Principal:
    """The one person that an operator names.

    Parameters
    ----------
    words:
        An account `u-...`, an ORCID iD, or a subject at any configured provider; or issuer and subject.

    Returns
    -------
    The person as the hub last said. One who never logged in has only the identity that a user office names,
    and so the rights that it gives.

    Raises
    ------
    UnknownPerson
        If there is none.
    AmbiguousPerson
        If there are several.
    EndedAccount
        If the hub ended the account's rights.
    """
    shown = " ".join(words)
    if not all(word and len(word) <= MAX_SUBJECT and is_storable(word) for word in words):
        raise UnknownPerson(shown)
    if len(words) == 2:
        pairs = [(words[0], words[1])]
    elif _ACCOUNT.fullmatch(words[0]):
        return _only(_stored(session, [words[0]]), shown)
    elif _ORCID.fullmatch(words[0]):
        return _of_orcid(session, words[0])
    else:
        pairs = [(provider.issuer, words[0]) for provider in login.providers]
    stored = _stored(session, [account_name(*pair) for pair in pairs])
    if stored:
        return _only(stored, shown)
    return _only([_newcomer(*pair) for pair in pairs if _is_in_an_office(session, *pair)], shown)


def _stored(session: Session, accounts: Sequence[str]) -> list[Principal]:
    """Those of the accounts that may do something; an error where all that are known were ended.

    For a linked identity it is the account that it signs in as.
    """
    linked = select(IdentityRow.account, IdentityRow.signs_in_as).where(
        IdentityRow.account.in_(accounts), IdentityRow.signs_in_as.is_not(None)
    )
    signs_in_as = {row.account: row.signs_in_as for row in session.execute(linked)}
    accounts = [signs_in_as.get(account, account) for account in accounts]
    rows = session.scalars(select(PrincipalRow).where(PrincipalRow.account.in_(accounts))).all()
    found = [person for row in rows if (person := find_principal(session, row.account)) is not None]
    if rows and not found:
        raise EndedAccount(rows[0].account)
    return found


def _only(found: Sequence[Principal], shown: str) -> Principal:
    if len(found) > 1:
        raise AmbiguousPerson(shown, sorted(person.account for person in found))
    if not found:
        raise UnknownPerson(shown)
    return found[0]


def _of_orcid(session: Session, orcid: str) -> Principal:
    same = PrincipalRow.body["orcid"].as_string() == orcid
    accounts = session.scalars(select(PrincipalRow.account).where(same).limit(20)).all()
    stored = _stored(session, accounts)
    if stored:
        return _only(stored, orcid)
    for table in (MemberRow, StaffRow):
        if session.scalar(select(table.id).where(table.orcid == orcid).limit(1)) is not None:
            return _newcomer("https://orcid.org", orcid, orcid=orcid)
    raise UnknownPerson(orcid)


def _is_in_an_office(session: Session, issuer: str, subject: str) -> bool:
    return any(
        session.scalar(select(table.id).where(table.issuer == issuer, table.subject == subject).limit(1))
        is not None
        for table in (MemberRow, StaffRow)
    )


def _newcomer(issuer: str, subject: str, orcid: str | None = None) -> Principal:
    return Principal(
        issuer=issuer,
        subject=subject,
        account=account_name(issuer, subject),
        display_name=subject[:200],
        orcid=orcid,
        checked_at=datetime.now(UTC),
    )
