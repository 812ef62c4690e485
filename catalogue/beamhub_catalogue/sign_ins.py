"""Identities that sign in as another account, because one person showed both.

A linked identity and the account that it signs in as always belong to one person, and no link leads to a
linked identity: who signs in as whom is known after one look.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import Context, pseudonym_of, record
from beamhub_catalogue.linked_people import join_person, leave_person
from beamhub_catalogue.models import IdentityRow, PrincipalRow, SessionRow
from beamhub_catalogue.people import remove_principal
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import Identity, account_name
from beamhub_core.linked_identity import MAX_LINKED, IdentityAnswer, IdentityToLink, LinkedIdentity
from beamhub_core.session import LIVE_STATES

BY = "self"


class TargetUnknown(BeamhubError):
    """Nobody ever signed in as the account that an identity is to sign in as."""

    exit_code = 3

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account

    def __str__(self) -> str:
        return "The account that the identity is to sign in as is not known here."


class LinkRefused(BeamhubError):
    """An identity cannot be linked as things stand; `reason` may be read by its owner."""

    exit_code = 4

    def __init__(self, account: str, reason: str) -> None:
        super().__init__(account, reason)
        self.account, self.reason = account, reason

    def __str__(self) -> str:
        return self.reason


def sign_in_answer(session: Session, account: str) -> IdentityAnswer:
    """As whom the identity of an account signs in, and who else signs in so."""
    row = session.get(IdentityRow, account)
    signs_in_as = (row.signs_in_as if row else None) or account
    own = session.get(IdentityRow, signs_in_as)
    query = select(IdentityRow).where(IdentityRow.signs_in_as == signs_in_as)
    linked = session.scalars(query.order_by(IdentityRow.linked_at, IdentityRow.account))
    return IdentityAnswer(
        account=account,
        signs_in_as=signs_in_as,
        identity=Identity(issuer=own.issuer, subject=own.subject) if own else None,
        linked=tuple(
            LinkedIdentity(
                issuer=one.issuer, subject=one.subject, account=one.account, linked_at=one.linked_at
            )
            for one in linked
        ),
    )


def link_identity(session: Session, identity: IdentityToLink, now: datetime, wall_now: datetime) -> bool:
    """Let an identity sign in as another account; False when it does so already.

    Both become one person. The rights of the account that was the identity's own end: nobody signs in to it
    from now on, so nothing would refresh them.

    Raises
    ------
    TargetUnknown
        If nobody ever signed in as the other account.
    LinkRefused
        If one of the two is linked otherwise, sessions of the identity's own account live, or too many
        identities sign in as the other account.
    """
    account, to = account_name(identity.issuer, identity.subject), identity.signs_in_as
    target = session.get(IdentityRow, to)
    if target is None:
        raise TargetUnknown(to)
    row = session.get(IdentityRow, account)
    if row is not None and row.signs_in_as == to:
        return False
    _check_free(session, row, account, target)
    if row is None:
        row = IdentityRow(
            account=account,
            person_id=target.person_id,
            issuer=identity.issuer,
            subject=identity.subject,
            linked_by=BY,
        )
        session.add(row)
    else:
        join_person(session, row, target, now, BY)
    row.signs_in_as, row.linked_at = to, now
    session.flush()
    remove_principal(session, account, wall_now)
    others = [pseudonym_of(session, "person", to)]
    context = Context(about=account)
    record(session, "identity_linked", "", now, account=to, context=context, by=BY, others=others)
    return True


def unlink_identity(session: Session, account: str, now: datetime) -> bool:
    """Let an identity sign in as its own account again; False when it does so already.

    It stays with the person when something else than the link says that it is theirs. An identity that never
    had an account of its own is forgotten.
    """
    row = session.get(IdentityRow, account)
    if row is None or row.signs_in_as is None:
        return False
    to = row.signs_in_as
    others = [pseudonym_of(session, "person", to)]
    context = Context(about=account)
    record(session, "identity_unlinked", "", now, account=to, context=context, by=BY, others=others)
    row.signs_in_as = None
    _forget_in_principal(session, to, row)
    known = session.get(PrincipalRow, account)
    if known is None:
        session.delete(row)
    elif row.linked_by == BY:
        leave_person(session, row, known.body["display_name"], now)
    session.flush()
    return True


def _forget_in_principal(session: Session, account: str, row: IdentityRow) -> None:
    """Rows of user offices that name the identity give the account nothing from now on, before any push."""
    principal = session.get(PrincipalRow, account)
    if principal is not None:
        gone = {"issuer": row.issuer, "subject": row.subject}
        kept = [one for one in principal.body.get("linked", ()) if one != gone]
        # Nor is what the identity asserted lost to the account: it was never the account's own.
        principal.body = principal.body | {"linked": kept, "entitlements": [], "unheard": []}


def _check_free(session: Session, row: IdentityRow | None, account: str, target: IdentityRow) -> None:
    """LinkRefused where a link would lead in a circle, over another link, or away from what runs."""
    if account == target.account:
        raise LinkRefused(account, "This identity is the account's own already.")
    if target.signs_in_as is not None:
        raise LinkRefused(account, "The account that you are signed in to was itself linked to another one.")
    if row is not None and row.signs_in_as is not None:
        raise LinkRefused(account, "This identity is linked to another account. Unlink it there first.")
    if _n_linked(session, account):
        raise LinkRefused(account, "Other identities are linked to this one. Unlink them from it first.")
    live = select(func.count()).where(SessionRow.account == account, SessionRow.state.in_(LIVE_STATES))
    if session.scalar(live):
        raise LinkRefused(account, "Sessions of this identity still run. Stop them, then link it.")
    if _n_linked(session, target.account) >= MAX_LINKED:
        raise LinkRefused(account, f"{MAX_LINKED} identities are linked to this account; no more can be.")


def _n_linked(session: Session, account: str) -> int:
    return session.scalar(select(func.count()).where(IdentityRow.signs_in_as == account)) or 0
