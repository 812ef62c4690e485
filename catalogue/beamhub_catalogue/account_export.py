"""Everything that is stored about a person, for the person (GDPR Articles 15 and 20)."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit_reading import MAX_PAGE, EntryView, own_entries
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.linked_people import accounts_of
from beamhub_catalogue.models import (
    ActRow,
    DatasetRow,
    IdentityRow,
    LogbookRow,
    LostEntitlementRow,
    PersonRow,
    PrincipalRow,
    SessionRow,
    ShareRow,
)
from beamhub_catalogue.people import find_principal, reader_of


def build_export(session: Session, desk: Desk, account: str) -> dict[str, Any]:
    """What the web service stores of the person behind an account, as JSON values.

    Entries of the audit come as the person may read them. The keys of shares and tokens of servers are
    stored as digests only and are left out.
    """
    accounts = accounts_of(session, account)
    identities = session.scalars(select(IdentityRow).where(IdentityRow.account.in_(accounts))).all()
    people = session.scalars(
        select(PersonRow).where(PersonRow.id.in_({row.person_id for row in identities}))
    ).all()
    by = ("account", *_columns_but(IdentityRow, "account", "person_id"))
    return {
        "accounts": list(accounts),
        "person": [_plain(row, ("name", "orcid", "first_seen")) for row in people],
        "identities": [_plain(row, by) for row in identities],
        "principals": _rows(session, PrincipalRow, PrincipalRow.account.in_(accounts)),
        "lost_entitlements": _rows(session, LostEntitlementRow, LostEntitlementRow.account.in_(accounts)),
        "memberships": [m for one in accounts for m in _memberships(session, desk, one)],
        "sessions": _rows(session, SessionRow, SessionRow.account.in_(accounts), "token_digest"),
        "shares": _rows(session, ShareRow, ShareRow.account.in_(accounts), "key_digest"),
        "logbook": _rows(session, LogbookRow, LogbookRow.account.in_(accounts)),
        "acts": _rows(session, ActRow, or_(ActRow.made_by.in_(accounts), ActRow.revoked_by.in_(accounts))),
        "products": _rows(
            session,
            DatasetRow,
            or_(
                DatasetRow.private_to.in_(accounts),
                DatasetRow.product["account"].as_string().in_(accounts),
            ),
        ),
        "audit": [dataclasses.asdict(entry) for entry in all_own_entries(session, account)],
    }


def all_own_entries(session: Session, account: str) -> list[EntryView]:
    """Every entry of the person behind an account, newest first."""
    found: list[EntryView] = []
    before: int | None = None
    while True:
        page = own_entries(session, account, before, MAX_PAGE)
        found += page.entries
        if page.before is None:
            return found
        before = page.before


def _memberships(session: Session, desk: Desk, account: str) -> list[dict[str, Any]]:
    principal = find_principal(session, account)
    if principal is None:
        return []
    reader = reader_of(session, principal, desk.config.login, desk.clock())
    return [membership.model_dump(mode="json") for membership in reader.memberships]


def _rows(session: Session, table: Any, condition: Any, *left_out: str) -> list[dict[str, Any]]:
    names = _columns_but(table, *left_out)
    return [_plain(row, names) for row in session.scalars(select(table).where(condition))]


def _columns_but(table: Any, *left_out: str) -> tuple[str, ...]:
    return tuple(column.name for column in table.__table__.columns if column.name not in left_out)


def _plain(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
