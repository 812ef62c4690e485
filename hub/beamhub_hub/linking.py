"""Several identities of one person: who signs in as which account, and what joining them makes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from beamhub_core.identity import Identity
from beamhub_core.linked_identity import IdentityAnswer
from beamhub_hub.account_principal import account_principal, with_identity
from beamhub_hub.denial import LoginDenied
from beamhub_hub.login_record import IdentityRecord, LoginRecord

RECENT = timedelta(minutes=15)
"""Who links an identity logged in at most this long ago: a browser left open gives no account away."""


def joined_record(
    records: Sequence[IdentityRecord],
    latest: IdentityRecord,
    answer: IdentityAnswer,
    *,
    now: datetime,
    grace_s: float,
) -> LoginRecord:
    """The record of the account that an identity logs in to.

    Parameters
    ----------
    records:
        What providers said before of the account's identities.
    latest:
        What the provider says of the identity that logs in now.
    answer:
        What web says of that identity.
    """
    account, *linked = identities_of(answer) or (latest.identity,)
    if account.account != answer.signs_in_as or latest.identity not in (account, *linked):
        raise LoginDenied("not_allowed", "web speaks of another identity")
    found = with_identity(records, latest, (account, *linked))
    principal = account_principal(account, linked, found, now=now, grace_s=grace_s)
    return LoginRecord(principal=principal, identities=found)


def identities_of(answer: IdentityAnswer) -> tuple[Identity, ...]:
    """The identities that sign in as one account, its own first; none where web never saw it."""
    if answer.identity is None:
        return ()
    return (answer.identity, *(Identity(issuer=one.issuer, subject=one.subject) for one in answer.linked))


def check_may_link(record: LoginRecord | None, latest: IdentityRecord, now: datetime) -> None:
    """Nothing when the person at the browser showed both identities just now.

    Raises
    ------
    LoginDenied
        `link_too_late` when the account's own login is older than RECENT, `link_guest` for a guest.
    """
    if record is None or record.current.logged_in_at is None:
        raise LoginDenied("link_too_late")
    if now - record.current.logged_in_at > RECENT:
        raise LoginDenied("link_too_late")
    if "guest" in record.principal.roles or "guest" in latest.principal.roles:
        raise LoginDenied("link_guest")
