"""What `beamhub account` does; `beamhub_catalogue.audit_command` has its words."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.account_erasure import Erasure, erase
from beamhub_catalogue.account_export import build_export
from beamhub_catalogue.audit import Context, operator_name, record
from beamhub_catalogue.audit_verbs import BadArgument
from beamhub_catalogue.known_accounts import UnknownAccount, find_account
from beamhub_catalogue.linked_people import accounts_of, link, unlink
from beamhub_catalogue.models import IdentityRow, PersonRow
from beamhub_catalogue.shown import opened_service, show


def run_show(arguments: argparse.Namespace) -> int:
    """Who somebody is."""
    with opened_service(arguments) as service:
        with service.database.reading() as session:
            account = find_account(session, service.config, arguments.subject)
            facts = _person(session, account)
        _tell_reading(service, account, "person")
    lines = [f"{facts['name'] or '(no name)'}\tORCID {facts['orcid'] or 'none'}"]
    for one in facts["identities"]:
        conflict = f"\tCONFLICT: {one['conflict']}" if one["conflict"] else ""
        how = f"linked by {one['linked_by']} {one['linked_at']}"
        how += f", signs in as {one['signs_in_as']}" if one["signs_in_as"] else ""
        lines.append(f"{one['account']}\t{one['subject']}\t{one['issuer']}\t{how}{conflict}")
    show(arguments, facts, lines)
    return 0


def run_link(arguments: argparse.Namespace) -> int:
    """Join accounts to the person behind the first."""
    if len(arguments.subjects) < 2:
        raise BadArgument("SUBJECT", arguments.subjects[0], "two subjects: whom to join, and who joins")
    with opened_service(arguments) as service, service.database.writing() as session:
        to, *joining = [_identity(session, service, name) for name in arguments.subjects]
        at, operator = service.clock(), operator_name()
        moved = [
            account
            for account in joining
            if link(session, account, to, at, Context(about=account, operator=operator))
        ]
        accounts = accounts_of(session, to)
    show(arguments, {"moved": moved, "accounts": accounts}, [f"{len(moved)} account(s) joined", *accounts])
    return 0


def run_unlink(arguments: argparse.Namespace) -> int:
    """Make an account a person of its own."""
    with opened_service(arguments) as service, service.database.writing() as session:
        account = _identity(session, service, arguments.subject)
        context = Context(about=account, operator=operator_name())
        done = unlink(session, account, service.clock(), context)
    words = "is a person of its own now" if done else "was linked to no other"
    show(arguments, {"account": account, "unlinked": done}, [f"{account} {words}"])
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Everything about a person, into a file that only its owner can read."""
    with opened_service(arguments) as service:
        with service.database.reading() as session:
            account = find_account(session, service.config, arguments.subject)
            service.rules.refresh()
            facts = build_export(session, service.desk, account)
        _write_new(arguments.output, json.dumps(facts, default=_text, indent=1))
        _tell_reading(service, account, "export")
    counts = {name: len(value) for name, value in facts.items()}
    show(arguments, {"file": str(arguments.output)} | counts, [f"{n} {name}" for name, n in counts.items()])
    return 0


def run_erase(arguments: argparse.Namespace) -> int:
    """Forget a person."""
    with opened_service(arguments) as service:
        with service.database.reading() as session:
            account = find_account(session, service.config, arguments.subject)
        at = service.clock()
        done = erase(service.database, account, at, operator_name(), dry_run=arguments.dry_run)
    show(arguments, dataclasses.asdict(done) | {"dry_run": arguments.dry_run}, _told(done, arguments.dry_run))
    return 0


def _told(done: Erasure, dry_run: bool) -> list[str]:
    verb = "would be" if dry_run else "were"
    return [
        *(f"{table}: {n_rows} row(s) {verb} changed" for table, n_rows in done.changed.items() if n_rows),
        *(f"a product of theirs stays on disk: {file}" for file in done.files),
        *(f"kept in {where}" for where in done.kept),
        "Delete the account at the hub too, and its home: the next login there makes a new person here.",
    ]


def _person(session: Session, account: str) -> dict[str, Any]:
    query = select(IdentityRow).where(IdentityRow.account.in_(accounts_of(session, account)))
    rows = session.scalars(query.order_by(IdentityRow.account)).all()
    person = session.get(PersonRow, rows[0].person_id) if rows else None
    names = (
        "account",
        "issuer",
        "subject",
        "orcid",
        "facility_account",
        "linked_by",
        "linked_at",
        "conflict",
        "signs_in_as",
    )
    return {
        "name": person.name if person else "",
        "orcid": person.orcid if person else None,
        "first_seen": person.first_seen if person else None,
        "identities": [{name: getattr(row, name) for name in names} for row in rows],
    }


def _identity(session: Session, service: Any, subject: str) -> str:
    account = find_account(session, service.config, subject)
    if session.get(IdentityRow, account) is None:
        raise UnknownAccount(subject, ())
    return account


def _tell_reading(service: Any, account: str, of: str) -> None:
    with service.database.writing() as session:
        context = Context(about=account, operator=operator_name())
        record(session, "entries_read", "", service.clock(), context=context, of=of)


def _write_new(path: Path, text: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadArgument("-o", str(path), f"a file that can be made ({error.strerror})") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
