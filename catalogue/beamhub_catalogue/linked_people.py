"""People and the accounts that are theirs: joined by ORCID or facility account, never by name or e-mail.

What a person joins by showing both identities stands in `sign_ins`."""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import Context, pseudonym_of, record
from beamhub_catalogue.models import IdentityRow, PersonRow
from beamhub_core.identity import Principal

log = logging.getLogger(__name__)


def keep_identity(session: Session, principal: Principal, now: datetime) -> IdentityRow:
    """Keep whose account it is, by what the provider asserted.

    A new account is joined to the one person that its ORCID and its facility account lead to, and is a new
    person otherwise. An account that is known stays with its person whatever it asserts; what then leads to
    another person is a conflict: kept with the identity, recorded once, and left to an operator.
    """
    row = session.get(IdentityRow, principal.account)
    by_orcid = _by_orcid(session, principal.orcid)
    by_facility = _by_facility_account(session, principal)
    conflict: str | None = None
    if row is None:
        row, conflict = _new_identity(session, principal, by_orcid, by_facility, now)
    person = session.get_one(PersonRow, row.person_id)
    if by_orcid is not None and by_orcid.id != person.id:
        conflict = "orcid_of_another"
    elif by_facility - {person.id}:
        conflict = conflict or "facility_account_of_another"
    elif principal.orcid not in (None, person.orcid) and not _takes_orcid(session, person, principal, row):
        conflict = "orcid_changed"
    person.name = principal.display_name
    row.orcid, row.facility_account = principal.orcid, principal.facility_account
    if conflict is not None and conflict != row.conflict:
        _tell_conflict(session, row, by_orcid, by_facility, conflict, now)
    row.conflict = conflict
    session.flush()
    return row


def accounts_of(session: Session, account: str) -> tuple[str, ...]:
    """All accounts of the person behind one, itself first; only itself where nobody knows the person."""
    person_id = session.scalar(select(IdentityRow.person_id).where(IdentityRow.account == account))
    if person_id is None:
        return (account,)
    query = select(IdentityRow.account).where(
        IdentityRow.person_id == person_id, IdentityRow.account != account
    )
    return (account, *session.scalars(query.order_by(IdentityRow.account)))


def names_of(session: Session, accounts: set[str]) -> dict[str, str]:
    """What people are called, by account; without those that were erased or never seen."""
    query = (
        select(IdentityRow.account, PersonRow.name)
        .join(PersonRow, PersonRow.id == IdentityRow.person_id)
        .where(IdentityRow.account.in_(accounts), PersonRow.name != "")
    )
    return {row.account: row.name for row in session.execute(query)}


def link(session: Session, account: str, to: str, now: datetime, context: Context) -> bool:
    """Join an account to the person behind another, as an operator found out; False when it is so already.

    The person that the account leaves vanishes when no other account is theirs.
    """
    row, target = session.get_one(IdentityRow, account), session.get_one(IdentityRow, to)
    if row.person_id == target.person_id:
        return False
    join_person(session, row, target, now, "operator")
    others = [pseudonym_of(session, "person", to)]
    record(session, "identity_linked", "", now, context=context, by="operator", others=others)
    return True


def unlink(session: Session, account: str, now: datetime, context: Context) -> bool:
    """Make an account a person of its own; False when it is one already."""
    row = session.get_one(IdentityRow, account)
    others = accounts_of(session, account)[1:]
    if not others:
        return False
    name = session.get_one(PersonRow, row.person_id).name
    person = PersonRow(orcid=None, name=name, first_seen=now, erased_at=None)
    session.add(person)
    session.flush()
    _move(session, row, person, now, "operator")
    told = [pseudonym_of(session, "person", other) for other in others]
    record(session, "identity_unlinked", "", now, context=context, by="operator", others=told)
    return True


def join_person(session: Session, row: IdentityRow, target: IdentityRow, now: datetime, by: str) -> None:
    """Make an account another's person's; one that is so already stays as it was joined."""
    if row.person_id != target.person_id:
        _move(session, row, session.get_one(PersonRow, target.person_id), now, by)


def leave_person(session: Session, row: IdentityRow, name: str, now: datetime) -> None:
    """Make an account a person of its own, unless its ORCID or facility account says whose it is."""
    person = session.get_one(PersonRow, row.person_id)
    same = select(func.count()).where(
        IdentityRow.person_id == person.id,
        IdentityRow.account != row.account,
        IdentityRow.facility_account == row.facility_account,
    )
    if row.orcid is not None and row.orcid == person.orcid:
        row.linked_by = "orcid"
    elif row.facility_account is not None and session.scalar(same):
        row.linked_by = "facility_account"
    else:
        alone = PersonRow(orcid=None, name=name, first_seen=now, erased_at=None)
        session.add(alone)
        session.flush()
        _move(session, row, alone, now, "first")


def _new_identity(
    session: Session, principal: Principal, by_orcid: PersonRow | None, by_facility: set[int], now: datetime
) -> tuple[IdentityRow, str | None]:
    found = by_facility | ({by_orcid.id} if by_orcid else set())
    person, by, conflict = None, "first", None
    if len(found) == 1:
        person = session.get_one(PersonRow, found.pop())
        by = "orcid" if by_orcid else "facility_account"
        if principal.orcid and person.orcid not in (None, principal.orcid):
            person, by, conflict = None, "first", "orcid_changed"
    elif found:
        conflict = "several_people"
    if person is None:
        free = principal.orcid if by_orcid is None else None
        person = PersonRow(orcid=free, name=principal.display_name, first_seen=now, erased_at=None)
        session.add(person)
        session.flush()
    row = IdentityRow(
        account=principal.account,
        person_id=person.id,
        issuer=principal.issuer,
        subject=principal.subject,
        orcid=principal.orcid,
        facility_account=principal.facility_account,
        linked_by=by,
        linked_at=now,
        conflict=None,
        signs_in_as=None,
    )
    session.add(row)
    session.flush()
    if by != "first":
        others = accounts_of(session, row.account)[1:]
        told = [pseudonym_of(session, "person", other) for other in others]
        context = Context(about=row.account)
        record(session, "identity_linked", "", now, context=context, by=by, others=told)
    return row, conflict


def _by_orcid(session: Session, orcid: str | None) -> PersonRow | None:
    return session.scalar(select(PersonRow).where(PersonRow.orcid == orcid)) if orcid else None


def _by_facility_account(session: Session, principal: Principal) -> set[int]:
    """The people of other accounts for which a provider asserted the same facility account."""
    if principal.facility_account is None:
        return set()
    query = select(IdentityRow.person_id).where(
        IdentityRow.facility_account == principal.facility_account, IdentityRow.account != principal.account
    )
    return set(session.scalars(query.distinct()))


def _takes_orcid(session: Session, person: PersonRow, principal: Principal, row: IdentityRow) -> bool:
    """Whether a free ORCID becomes the person's: no other account of theirs says otherwise."""
    query = select(func.count()).where(
        IdentityRow.person_id == person.id,
        IdentityRow.account != row.account,
        IdentityRow.orcid.is_not(None),
        IdentityRow.orcid != principal.orcid,
    )
    if session.scalar(query):
        return False
    person.orcid = principal.orcid
    return True


def _move(session: Session, row: IdentityRow, person: PersonRow, now: datetime, by: str) -> None:
    left = session.get_one(PersonRow, row.person_id)
    row.person_id, row.linked_by, row.linked_at, row.conflict = person.id, by, now, None
    row.signs_in_as = None  # one person's identity never signs in as another person
    session.flush()
    parted = update(IdentityRow).where(
        IdentityRow.signs_in_as == row.account, IdentityRow.person_id != person.id
    )
    session.execute(parted.values(signs_in_as=None))
    if session.scalar(select(func.count()).where(IdentityRow.person_id == left.id)) == 0:
        orcid = left.orcid
        session.delete(left)
        session.flush()
        person.orcid = person.orcid or orcid
        session.flush()


def _tell_conflict(
    session: Session,
    row: IdentityRow,
    by_orcid: PersonRow | None,
    by_facility: set[int],
    conflict: str,
    now: datetime,
) -> None:
    people = by_facility | ({by_orcid.id} if by_orcid else set())
    query = select(IdentityRow.account).where(
        IdentityRow.person_id.in_(people - {row.person_id}), IdentityRow.account != row.account
    )
    others = [pseudonym_of(session, "person", other) for other in session.scalars(query.limit(20))]
    context = Context(about=row.account)
    record(session, "identity_conflict", "", now, context=context, by=conflict, others=others)
    log.warning("an account leads to several people", extra={"account": row.account, "conflict": conflict})
