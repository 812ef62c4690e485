"""Erasure of a person (GDPR Article 17): what is ours to forget is forgotten, and what is not is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, MetaData, String, Table, Text, cast, delete, func, inspect, or_, select, update
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import Context, find_pseudonym, record
from beamhub_catalogue.database import Database
from beamhub_catalogue.linked_people import accounts_of
from beamhub_catalogue.models import (
    ActRow,
    AuditActorRow,
    DatasetRow,
    IdentityRow,
    LogbookRow,
    PersonRow,
    PrincipalRow,
    SessionRow,
    ShareRow,
)
from beamhub_catalogue.texts import contains
from beamhub_catalogue.ticket_queue import drop_tickets_of
from beamhub_core.errors import BeamhubError
from beamhub_core.session import LIVE_STATES

ERASED = "erased"
MIN_WORD = 4
"""Shorter names stand in too many other words to be looked for; columns that hold them alone are emptied."""
VISITS_TABLE = "portal_visits"
NOT_OURS = {
    "members": "the user office tells it; ask there",
    "instrument_staff": "the user office tells it; ask there",
    "sources": "the user office's last good answer; it follows the user office",
    "lost_entitlements": "ends a right that a user office still gives; under the account's hash alone",
}


class SessionsRun(BeamhubError):
    """A person cannot be erased while a session of theirs lives."""

    exit_code = 6

    def __init__(self, plan_ids: tuple[str, ...]) -> None:
        super().__init__(plan_ids)
        self.plan_ids = plan_ids

    def __str__(self) -> str:
        named = ", ".join(self.plan_ids[:5])
        return f"{len(self.plan_ids)} session(s) of this person live ({named}). Stop them, then ask again."


@dataclass(slots=True)
class Erasure:
    """What an erasure did, or would do.

    `changed` counts rows by table, `files` are products on disk, which are not touched, and `kept` says by
    table and column where a name, subject, ORCID or account still stands, and why.
    """

    accounts: tuple[str, ...]
    changed: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def erase(
    database: Database, account: str, now: datetime, operator: str, *, dry_run: bool = False
) -> Erasure:
    """Forget the person behind an account, with all accounts that are linked.

    Raises
    ------
    SessionsRun
        While one of their sessions lives.
    """
    if dry_run:
        with database.trying() as session:
            return _erase(session, account, now, operator)
    with database.writing() as session:
        if database.is_sqlite:
            session.connection().exec_driver_sql("PRAGMA secure_delete=ON")
        done = _erase(session, account, now, operator)
    if database.is_sqlite:
        _forget_free_pages(database)
    return done


def words_of(session: Session, accounts: Iterable[str]) -> frozenset[str]:
    """By what a person is known: names, subjects, ORCID, facility accounts, and the accounts."""
    accounts = tuple(accounts)
    found: set[str | None] = set(accounts)
    for body in session.scalars(select(PrincipalRow.body).where(PrincipalRow.account.in_(accounts))):
        found |= {body.get(name) for name in ("display_name", "subject", "orcid", "facility_account")}
    identities = session.scalars(select(IdentityRow).where(IdentityRow.account.in_(accounts))).all()
    for row in identities:
        found |= {row.subject, row.orcid, row.facility_account}
    people = {row.person_id for row in identities}
    for person in session.scalars(select(PersonRow).where(PersonRow.id.in_(people))):
        found |= {person.name, person.orcid}
    return frozenset(word for word in found if word)


def without(value: Any, words: frozenset[str]) -> Any:
    """A JSON value in which no text holds one of the words as a word of its own."""
    long = sorted((re.escape(word) for word in words if len(word) >= MIN_WORD), key=len, reverse=True)
    if not long:
        return value
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(long)})(?!\w)")

    def cleaned(part: Any) -> Any:
        if isinstance(part, str):
            return pattern.sub(ERASED, part)
        if isinstance(part, list):
            return [cleaned(one) for one in part]
        if isinstance(part, dict):
            return {cleaned(name): cleaned(one) for name, one in part.items()}
        return part

    return cleaned(value)


def found_in(session: Session, words: frozenset[str]) -> list[tuple[str, str, int]]:
    """Tables and columns of the whole database that still hold one of the words, and in how many rows."""
    sought = [word for word in words if len(word) >= MIN_WORD]
    tables = MetaData()
    tables.reflect(session.connection())
    found = []
    for table in tables.sorted_tables:
        for column in table.columns:
            if not isinstance(column.type, String | Text | JSON) or not sought:
                continue
            text = cast(column, Text)
            # As JSON a letter beyond ASCII may stand as an escape.
            forms = {form for word in sought for form in (word, json.dumps(word)[1:-1])}
            query = select(func.count()).select_from(table).where(or_(*(contains(text, f) for f in forms)))
            if n_rows := session.scalar(query):
                found.append((table.name, column.name, n_rows))
    return found


def _forget_free_pages(database: Database) -> None:
    """Free pages of an SQLite file, and its log, still hold what was changed before."""
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.close()
    finally:
        connection.close()


def _erase(session: Session, account: str, now: datetime, operator: str) -> Erasure:
    accounts = accounts_of(session, account)
    live = select(SessionRow.plan_id).where(
        SessionRow.account.in_(accounts), SessionRow.state.in_(LIVE_STATES)
    )
    if plan_ids := tuple(session.scalars(live)):
        raise SessionsRun(plan_ids)
    words = words_of(session, accounts)
    done = Erasure(accounts)
    done.changed["sessions"] = _erase_sessions(session, accounts, words)
    done.changed["datasets"] = _erase_products(session, accounts, words, done.files)
    done.changed["logbook_events"] = _erase_logbook(session, accounts, words)
    done.changed["proposal_acts"] = _erase_acts(session, accounts, words)
    for table, column in (("shares", ShareRow.account), ("principals", PrincipalRow.account)):
        result = session.execute(delete(column.class_).where(column.in_(accounts)))
        done.changed[table] = result.rowcount  # type: ignore[attr-defined]  # a delete gives a CursorResult
    done.changed["queue_tickets"] = drop_tickets_of(session, accounts)
    done.changed[VISITS_TABLE] = _erase_visits(session, accounts)
    done.changed["identities"] = _erase_person(session, accounts, now)
    done.changed["audit_actors"] = _erase_from_audit(session, accounts, now, operator, done.changed)
    session.flush()
    for table_name, name, n_rows in found_in(session, words):
        why = NOT_OURS.get(table_name, "the record's own words, or another person's; look at it")
        done.kept.append(f"{table_name}.{name}: {n_rows} row(s): {why}")
    return done


def _erase_sessions(session: Session, accounts: tuple[str, ...], words: frozenset[str]) -> int:
    rows = session.scalars(select(SessionRow).where(SessionRow.account.in_(accounts))).all()
    for row in rows:
        row.plan = _erased_plan(row.plan, words)
        row.account, row.url, row.backend_id, row.token_digest = ERASED, None, None, None
        row.reason = without(row.reason, words)
    return len(rows)


def _erased_plan(plan: dict[str, Any], words: frozenset[str]) -> dict[str, Any]:
    """What a session mounted and ran, without whose it was; its hash is no longer that of the text."""
    own = {"path": ERASED, "source": f"/{ERASED}", "target": f"/{ERASED}"}
    mounts = [m | own if m["purpose"] in ("home", "scratch") else m for m in plan["mounts"]]
    blank: dict[str, Any] = {
        "account": ERASED,
        "display_name": ERASED,
        "principal_label": ERASED,
        "environment_variables": {},
        "uid": None,
        "gid": None,
        "gids": [],
    }
    cleaned: dict[str, Any] = without(plan | {"mounts": mounts} | blank, words)
    return cleaned


def _erase_products(
    session: Session, accounts: tuple[str, ...], words: frozenset[str], files: list[str]
) -> int:
    query = select(DatasetRow).where(
        or_(DatasetRow.private_to.in_(accounts), DatasetRow.product["account"].as_string().in_(accounts))
    )
    rows = session.scalars(query).all()
    for row in rows:
        files.append(f"{row.pool}: {row.file}")
        row.title = without(row.title, words)
        if row.product is not None:
            row.product = without(row.product | {"who": ERASED, "account": ERASED}, words)
        for parameter in row.parameters:
            parameter.word = without(parameter.word, words)
        if row.private_to is not None:  # stays private, to nobody
            row.private_to = ERASED
            row.file, row.folder = without(row.file, words), without(row.folder, words)
            for file in row.files:
                file.path, file.name = without(file.path, words), without(file.name, words)
    return len(rows)


def _erase_logbook(session: Session, accounts: tuple[str, ...], words: frozenset[str]) -> int:
    rows = session.scalars(select(LogbookRow).where(LogbookRow.account.in_(accounts))).all()
    for row in rows:
        row.account, row.tags = None, without(row.tags, words)
        row.title, row.text = without(row.title, words), without(row.text, words)
    return len(rows)


def _erase_acts(session: Session, accounts: tuple[str, ...], words: frozenset[str]) -> int:
    query = select(ActRow).where(or_(ActRow.made_by.in_(accounts), ActRow.revoked_by.in_(accounts)))
    rows = session.scalars(query).all()
    for row in rows:
        row.made_by = ERASED if row.made_by in accounts else row.made_by
        row.revoked_by = ERASED if row.revoked_by in accounts else row.revoked_by
        row.reason = without(row.reason, words)
    return len(rows)


def _erase_visits(session: Session, accounts: tuple[str, ...]) -> int:
    """The portal's visits, where a portal ever ran on this database; the table is its own."""
    connection = session.connection()
    if VISITS_TABLE not in inspect(connection).get_table_names():
        return 0
    visits = Table(VISITS_TABLE, MetaData(), autoload_with=connection)
    return connection.execute(delete(visits).where(visits.c.account.in_(accounts))).rowcount


def _erase_person(session: Session, accounts: tuple[str, ...], now: datetime) -> int:
    query = select(IdentityRow.person_id).where(IdentityRow.account.in_(accounts))
    people = set(session.scalars(query))
    session.execute(delete(IdentityRow).where(IdentityRow.account.in_(accounts)))
    blank = {"name": "", "orcid": None, "erased_at": now}
    session.execute(update(PersonRow).where(PersonRow.id.in_(people)).values(blank))
    return len(accounts) if people else 0


def _erase_from_audit(
    session: Session, accounts: tuple[str, ...], now: datetime, operator: str, changed: dict[str, int]
) -> int:
    """Entries stay as they are, and the names that they lead to are gone."""
    actors = [a for account in accounts if (a := find_pseudonym(session, "person", account)) is not None]
    n_rows, context = sum(changed.values()), Context(operator=operator)
    told = record(session, "erasure", "", now, context=context, actors=actors, n_rows=n_rows)
    session.flush()
    session.execute(
        update(AuditActorRow)
        .where(AuditActorRow.actor.in_(actors))
        .values(name=None, salt=None, erased_by=told.seq)
    )
    return len(actors)
