"""What happened, for those who will ask: entries are appended to a chain and never changed.

`record` is the one way in. What an entry may say stands in `audit_kinds`, how entries hang together in
`audit_chain`, who may read them in `audit_reading`, how they end in `audit_retention`.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit_chain import GENESIS, actor_digest, entry_digest
from beamhub_catalogue.audit_kinds import NotRecordable, build_detail, check_identifier, plain
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import AuditActorRow, AuditHeadRow, AuditProposalRow, AuditRow

ActorKind = Literal["person", "operator", "service", "platform"]
MAX_SUBJECT = 1_000


@dataclass(frozen=True, slots=True)
class Context:
    """Whom and what an entry touches beside the account that acted.

    `about` is the account that it happened to. `operator` (a login name of this machine) or `service` (a
    process) acted where no account did; without any, the platform itself. `proposals` are touched beside
    those of the detail's parts; their investigators read the entry. No other entry has the `reference`.
    """

    about: str | None = None
    operator: str | None = None
    service: str | None = None
    proposals: Iterable[str] = ()
    reference: str | None = None


NO_CONTEXT = Context()


def record(
    session: Session,
    kind: str,
    subject: str,
    at: datetime,
    *,
    account: str | None = None,
    context: Context = NO_CONTEXT,
    **detail: Any,
) -> AuditRow:
    """Append one entry in the transaction of what it tells.

    Parameters
    ----------
    subject:
        What it is about: a plan's id, a pid, a proposal; empty where it is a person.
    account:
        The account that acted.
    detail:
        The fields of the kind's model in `audit_kinds`.

    Raises
    ------
    NotRecordable
        For an unknown kind or field, and for anything that looks like a person or a token.
    """
    facts = build_detail(kind, detail)
    try:
        subject = check_identifier(plain(subject)[:MAX_SUBJECT])
    except ValueError as error:
        raise NotRecordable(kind, f"the subject {error}") from None
    touched = {part.proposal for part in facts.parts} | {plain(name) for name in context.proposals}
    head = _locked_head(session)  # before pseudonyms are made: nobody else makes one meanwhile
    who, actor = _actor(session, account, context)
    row = AuditRow(
        seq=head.seq + 1,
        at=at.astimezone(UTC),
        kind=kind,
        actor_kind=who,
        actor=actor,
        about=pseudonym_of(session, "person", context.about) if context.about is not None else None,
        subject=subject,
        detail=facts.model_dump(mode="json"),
        proposals=sorted(touched),
        reference=context.reference,
        previous=head.digest,
    )
    row.digest = entry_digest(row)
    session.add(row)
    session.add_all(AuditProposalRow(proposal=proposal, seq=row.seq) for proposal in sorted(touched))
    head.seq, head.digest, head.at = row.seq, row.digest, row.at
    return row


def record_command(database: Database, command: str, at: datetime) -> None:
    """Say that a command of this machine changes something; in a transaction of its own, before it does."""
    with database.writing() as session:
        record(session, "command", "", at, context=Context(operator=operator_name()), command=command)


def recorded_under(session: Session, reference: str) -> AuditRow | None:
    """The entry that has a reference."""
    return session.scalar(select(AuditRow).where(AuditRow.reference == reference))


def pseudonym_of(session: Session, kind: ActorKind, name: str) -> str:
    """By what the chain calls somebody; made, with a salt of its own, when there is none yet."""
    found = find_pseudonym(session, kind, name)
    if found is not None:
        return found
    salt = secrets.token_hex(32)
    row = AuditActorRow(actor=actor_digest(salt, kind, name), kind=kind, name=name, salt=salt, erased_by=None)
    session.add(row)
    return row.actor


def find_pseudonym(session: Session, kind: ActorKind, name: str) -> str | None:
    """By what the chain calls somebody; None when it never spoke of them, or they were erased."""
    query = select(AuditActorRow.actor).where(AuditActorRow.kind == kind, AuditActorRow.name == name)
    return session.scalar(query)


def operator_name() -> str:
    """Who runs a command on this machine, as the operating system knows them."""
    try:
        return getpass.getuser()[:200]
    except (KeyError, OSError):  # a numeric user without an entry, as in some containers
        return "unknown"


def _actor(session: Session, account: str | None, context: Context) -> tuple[ActorKind, str | None]:
    given: tuple[tuple[ActorKind, str | None], ...] = (
        ("person", account),
        ("operator", context.operator),
        ("service", context.service),
    )
    for kind, name in given:
        if name is not None:
            return kind, pseudonym_of(session, kind, name)
    return "platform", None


def _locked_head(session: Session) -> AuditHeadRow:
    """The end of the chain, which nobody else moves until this transaction is over."""
    head = session.get(AuditHeadRow, 1, with_for_update=True)
    if head is None:
        head = AuditHeadRow(id=1, seq=0, digest=GENESIS, at=None)
        session.add(head)
        session.flush()
    return head
