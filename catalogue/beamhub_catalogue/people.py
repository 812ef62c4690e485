"""Principals as the hub pushed them, and the memberships that join them to proposals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from beamhub_catalogue.linked_people import keep_identity
from beamhub_catalogue.models import LostEntitlementRow, MemberRow, PrincipalRow
from beamhub_core.config.login import LoginConfig
from beamhub_core.identity import Principal
from beamhub_core.policy import is_active
from beamhub_core.rights import Membership, ProposalRole

MAX_ENTITLED_PROPOSALS = 5_000


@dataclass(frozen=True, slots=True)
class Reader:
    """A person, None for an anonymous one, with the memberships that the person may use."""

    principal: Principal | None
    memberships: tuple[Membership, ...] = ()

    def proposals_at(self, now: datetime) -> list[str]:
        """The proposals that the reader belongs to at an instant."""
        return sorted({m.proposal for m in self.memberships if is_active(m, now)})


ANONYMOUS = Reader(None)


def store_principal(session: Session, principal: Principal, login: LoginConfig, now: datetime) -> bool:
    """Keep what the hub says of a person; False when something newer is known already.

    A proposal that the person's entitlements named before and name no more is remembered as lost: that ends
    the right also where a user office still lists the person, until an entitlement names it again.
    """
    row = session.get(PrincipalRow, principal.account)
    if row is not None:
        newest = max(row.checked_at, row.removed_at) if row.removed_at else row.checked_at
        if principal.checked_at < newest:
            return False
        before = set(entitled_roles(Principal.model_validate(row.body), login))
    else:
        row = PrincipalRow(account=principal.account)
        session.add(row)
        before = set()
    row.body, row.checked_at, row.removed_at = principal.model_dump(mode="json"), principal.checked_at, None
    keep_identity(session, principal, now)
    after = set(entitled_roles(principal, login))
    lost = {
        r.proposal: r
        for r in session.scalars(
            select(LostEntitlementRow).where(LostEntitlementRow.account == principal.account)
        )
    }
    for proposal in before - after - set(lost):
        session.add(LostEntitlementRow(account=principal.account, proposal=proposal, lost_at=now))
    for proposal in after & set(lost):
        session.delete(lost[proposal])
    return True


def remove_principal(session: Session, account: str, now: datetime) -> bool:
    """End an account's rights until the hub says something newer than `now`; False for an unknown account."""
    row = session.get(PrincipalRow, account)
    if row is None:
        return False
    row.removed_at = now
    return True


def find_principal(session: Session, account: str) -> Principal | None:
    """Who an account is; None when nobody said, or the account's rights were ended."""
    row = session.get(PrincipalRow, account)
    if row is None or row.removed_at is not None:
        return None
    return Principal.model_validate(row.body)


def as_of_now(principal: Principal | None, login: LoginConfig, wall_now: datetime) -> Principal | None:
    """The person without what the provider said too long ago: entitlements and roles end with the grace time.

    `wall_now` is the machine's own clock, as `checked_at` is; never a shifted one.
    """
    if principal is None or wall_now - principal.checked_at <= timedelta(hours=login.grace_h):
        return principal
    return principal.model_copy(update={"entitlements": (), "roles": (), "assurance": ()})


def entitled_roles(principal: Principal, login: LoginConfig) -> dict[str, ProposalRole]:
    """The proposals that a person's entitlements name, by the configuration of the person's provider.

    The hub checked the namespaces; checked again here, because this is where they become rights.
    """
    provider = next((p for p in login.providers if p.issuer == principal.issuer), None)
    if provider is None:
        return {}
    found: dict[str, ProposalRole] = {}
    for entitlement in principal.entitlements:
        if entitlement.namespace not in provider.entitlement_namespaces:
            continue
        if entitlement.group != provider.proposal_group or len(entitlement.subgroups) != 1:
            continue
        proposal, role = entitlement.subgroups[0], _entitled_role(entitlement.role)
        if role is not None and found.get(proposal) != "pi" and len(found) < MAX_ENTITLED_PROPOSALS:
            found[proposal] = role
    return found


def _entitled_role(role: str | None) -> ProposalRole | None:
    """pi and member as they stand, no role is member; a role that we do not know gives no right."""
    if role is None:
        return "member"
    return next((r for r in ("pi", "member") if r == role), None)


def reader_of(session: Session, principal: Principal | None, login: LoginConfig, now: datetime) -> Reader:
    """A person with the memberships that all sources together leave them."""
    if principal is None:
        return ANONYMOUS
    rows = session.scalars(select(MemberRow).where(_names(principal))).all()
    lost = session.scalars(
        select(LostEntitlementRow.proposal).where(LostEntitlementRow.account == principal.account)
    ).all()
    return Reader(principal, join_memberships(principal, rows, entitled_roles(principal, login), lost, now))


def join_memberships(
    principal: Principal,
    rows: Sequence[MemberRow],
    entitled: dict[str, ProposalRole],
    lost: Iterable[str],
    now: datetime,
) -> tuple[Membership, ...]:
    """The memberships of one person from user-office rows and entitlements.

    Either source gives a right, and a removal in either ends it: a row that the office took out or let end
    (with no other row of the proposal that holds or is to come), or an entitlement that was lost.
    """
    ended_by_office = {r.proposal for r in rows} - {r.proposal for r in rows if _is_standing(r, now)}
    ended = ended_by_office | set(lost)
    found = [
        Membership(
            proposal=row.proposal,
            account=principal.account,
            role=_role(row.role),
            since=row.since,
            until=row.until,
            source=row.source,
        )
        for row in rows
        if row.removed_at is None and row.proposal not in ended
    ]
    found += [
        Membership(proposal=proposal, account=principal.account, role=role, source="entitlement")
        for proposal, role in entitled.items()
        if proposal not in ended
    ]
    return tuple(found)


def team_names(session: Session, proposal: str) -> tuple[str, ...]:
    """Names of a proposal's people as the user office gives them, principal investigator first."""
    rows = session.scalars(
        select(MemberRow).where(MemberRow.proposal == proposal, MemberRow.removed_at.is_(None))
    ).all()
    order = list(get_args(ProposalRole))
    ranked = sorted(rows, key=lambda row: (order.index(_role(row.role)), row.id))
    return tuple(dict.fromkeys(row.name for row in ranked if row.name))


def _is_standing(row: MemberRow, now: datetime) -> bool:
    return row.removed_at is None and (row.until is None or now < row.until)


def _role(text: str) -> ProposalRole:
    known: tuple[ProposalRole, ...] = get_args(ProposalRole)
    return next(role for role in known if role == text)


def _names(principal: Principal) -> ColumnElement[bool]:
    """Rows that name this person by any one identity."""
    same = [and_(MemberRow.issuer == principal.issuer, MemberRow.subject == principal.subject)]
    if principal.orcid is not None:
        same.append(MemberRow.orcid == principal.orcid)
    if principal.facility_account is not None:
        same.append(MemberRow.facility_account == principal.facility_account)
    return or_(*same)
