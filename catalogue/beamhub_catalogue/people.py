"""Principals as the hub pushed them, and the memberships that join them to proposals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from sqlalchemy import Row, and_, or_, select
from sqlalchemy.orm import Session

from beamhub_catalogue.linked_people import keep_identity
from beamhub_catalogue.models import LostEntitlementRow, MemberRow, PrincipalRow, StaffRow
from beamhub_catalogue.texts import is_storable
from beamhub_core.config.login import LoginConfig
from beamhub_core.entitled_proposals import entitled_roles
from beamhub_core.identity import Principal
from beamhub_core.policy import is_active
from beamhub_core.rights import Assignment, Membership, ProposalRole

MAX_IN_ONE_QUERY = 2_000


class Reader:
    """A person, None for an anonymous one, with the memberships that the person may use."""

    def __init__(
        self, principal: Principal | None, memberships: Iterable[Membership | Assignment] = ()
    ) -> None:
        self.principal = principal
        self.memberships = tuple(memberships)
        self._by_proposal: dict[str, list[Membership | Assignment]] = defaultdict(list)
        self._by_instrument: dict[str, list[Membership | Assignment]] = defaultdict(list)
        for row in self.memberships:
            if isinstance(row, Membership):
                self._by_proposal[row.proposal].append(row)
            else:
                self._by_instrument[row.instrument].append(row)

    def rows_for(self, proposal: str, instrument: str) -> Sequence[Membership | Assignment]:
        """The rows that may give a right to a proposal at an instrument."""
        return [*self._by_proposal.get(proposal, ()), *self._by_instrument.get(instrument, ())]

    def proposals_at(self, now: datetime) -> list[str]:
        """The proposals that the reader belongs to at an instant."""
        return sorted(p for p, rows in self._by_proposal.items() if any(is_active(row, now) for row in rows))

    def instruments_at(self, now: datetime) -> list[str]:
        """The instruments that the reader is in charge of at an instant."""
        return sorted(
            i for i, rows in self._by_instrument.items() if any(is_active(row, now) for row in rows)
        )

    def roles_in(self, proposal: str, now: datetime) -> tuple[ProposalRole, ...]:
        """The roles that the reader has in a proposal at an instant."""
        rows = self._by_proposal.get(proposal, ())
        return tuple(row.role for row in rows if isinstance(row, Membership) and is_active(row, now))


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
        before = _ever_named(Principal.model_validate(row.body), login)
    else:
        row = PrincipalRow(account=principal.account)
        session.add(row)
        before = set()
    row.body, row.checked_at, row.removed_at = principal.model_dump(mode="json"), principal.checked_at, None
    keep_identity(session, principal, now)
    after = set(entitled_roles(principal, login))
    lost = session.scalars(
        select(LostEntitlementRow).where(LostEntitlementRow.account.in_(_accounts(principal)))
    ).all()
    for proposal in (
        before - _ever_named(principal, login) - {r.proposal for r in lost if r.account == principal.account}
    ):
        session.add(LostEntitlementRow(account=principal.account, proposal=proposal, lost_at=now))
    for row_lost in lost:
        if row_lost.proposal in after:
            session.delete(row_lost)
    return True


def _ever_named(principal: Principal, login: LoginConfig) -> set[str]:
    """The proposals that entitlements name, with those of identities that were not heard of for too long."""
    every = (*principal.entitlements, *principal.unheard)
    return set(entitled_roles(principal.model_copy(update={"entitlements": every}), login))


def remove_principal(session: Session, account: str, now: datetime) -> bool:
    """End an account's rights until the hub says something newer than `now`; False where none stood."""
    row = session.get(PrincipalRow, account)
    if row is None:
        return False
    stood, row.removed_at = row.removed_at is None, now
    return stood


def find_principal(session: Session, account: str) -> Principal | None:
    """Who an account is; None when nobody said, or the account's rights were ended."""
    row = session.get(PrincipalRow, account) if is_storable(account) else None
    if row is None or row.removed_at is not None:
        return None
    return Principal.model_validate(row.body)


def as_of_now(principal: Principal | None, login: LoginConfig, wall_now: datetime) -> Principal | None:
    """The person without what the provider said too long ago: entitlements and roles end with the grace time.

    A guest stays one: that role takes rights away and gives none.

    `wall_now` is the machine's own clock, as `checked_at` is; never a shifted one.
    """
    if principal is None or wall_now - principal.checked_at <= timedelta(hours=login.grace_h):
        return principal
    kept = tuple(role for role in principal.roles if role == "guest")
    nothing = {"entitlements": (), "capabilities": (), "assurance": ()}
    return principal.model_copy(update={**nothing, "roles": kept})


def reader_of(session: Session, principal: Principal | None, login: LoginConfig, now: datetime) -> Reader:
    """A person with the memberships that all sources together leave them."""
    if principal is None:
        return ANONYMOUS
    return readers_of(session, [principal], login, now)[principal.account]


def readers_of(
    session: Session, principals: Sequence[Principal], login: LoginConfig, now: datetime
) -> dict[str, Reader]:
    """Many people with their memberships, by account, with few queries."""
    found: dict[str, Reader] = {}
    for part in _parts(principals):
        members = _rows_naming(session, part, MemberRow, _MEMBER)
        staff = _rows_naming(session, part, StaffRow, _STAFF)
        lost: dict[str, list[str]] = defaultdict(list)
        ours = LostEntitlementRow.account.in_({account for p in part for account in _accounts(p)})
        for row in session.scalars(select(LostEntitlementRow).where(ours)):
            lost[row.account].append(row.proposal)
        for person in part:
            entitled = entitled_roles(person, login)
            rows = members[person.account]
            ended = [proposal for account in _accounts(person) for proposal in lost.get(account, ())]
            joined = join_memberships(person, rows, entitled, ended, now)
            found[person.account] = Reader(person, [*joined, *_assignments(person, staff[person.account])])
    return found


def _accounts(principal: Principal) -> list[str]:
    """The accounts of all identities: what one of them lost, linking it to another does not bring back."""
    return [identity.account for identity in principal.identities]


def _parts(principals: Sequence[Principal]) -> Iterator[list[Principal]]:
    """The people in parts that one query can name with all their identities."""
    part: list[Principal] = []
    n_identities = 0
    for person in principals:
        n_identities += len(person.identities)
        if part and n_identities > MAX_IN_ONE_QUERY:
            yield part
            part, n_identities = [], len(person.identities)
        part.append(person)
    if part:
        yield part


_MEMBER = ("proposal", "role", "since", "until", "removed_at", "source")
_STAFF = ("instrument", "since", "until", "removed_at", "source")


def _rows_naming(
    session: Session, people: Sequence[Principal], table: type[MemberRow | StaffRow], names: Sequence[str]
) -> dict[str, list[Row[Any]]]:
    """Columns of the rows that name these people by any one identity, by account, in order of their ids."""
    by_subject: dict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    by_orcid: dict[str | None, list[str]] = defaultdict(list)
    by_facility: dict[str | None, list[str]] = defaultdict(list)
    for person in people:
        for identity in person.identities:
            by_subject[identity.issuer, identity.subject].append(person.account)
        if person.orcid is not None:
            by_orcid[person.orcid].append(person.account)
        if person.facility_account is not None:
            by_facility[person.facility_account].append(person.account)
    issuers = {issuer for issuer, _ in by_subject}
    same = [and_(table.issuer.in_(issuers), table.subject.in_({subject for _, subject in by_subject}))]
    same += [table.orcid.in_(by_orcid)] if by_orcid else []
    same += [table.facility_account.in_(by_facility)] if by_facility else []
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    identities = (table.issuer, table.subject, table.orcid, table.facility_account)
    query = select(*identities, *(getattr(table, name) for name in names)).where(or_(*same))
    for row in session.execute(query.order_by(table.id)):
        accounts = {*by_orcid.get(row.orcid, ()), *by_facility.get(row.facility_account, ())}
        accounts.update(by_subject.get((row.issuer, row.subject), ()))
        for account in accounts:
            found[account].append(row)
    return found


def _assignments(principal: Principal, rows: Iterable[StaffRow | Row[Any]]) -> Iterator[Assignment]:
    """The instruments that a person is in charge of; a row that its office took out gives nothing."""
    for row in rows:
        if row.removed_at is None:
            yield Assignment(
                instrument=row.instrument,
                account=principal.account,
                since=row.since,
                until=row.until,
                source=row.source,
            )


def join_memberships(
    principal: Principal,
    rows: Sequence[MemberRow | Row[Any]],
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


def _is_standing(row: MemberRow | Row[Any], now: datetime) -> bool:
    return row.removed_at is None and (row.until is None or now < row.until)


def _role(text: str) -> ProposalRole:
    known: tuple[ProposalRole, ...] = get_args(ProposalRole)
    return next(role for role in known if role == text)
