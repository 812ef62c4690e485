"""The audit on the internal API: hub and gateway tell what happened there, and operators' tools read."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import HTTPException, Query, Request, Response
from pydantic import AwareDatetime, Field

from beamhub_catalogue.audit import Context, find_pseudonym, record, recorded_under
from beamhub_catalogue.audit_kinds import NotRecordable
from beamhub_catalogue.audit_reading import MAX_PAGE, EntryFilter, all_entries
from beamhub_catalogue.callers import Client, check_scope
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import AuditRow
from beamhub_core.audit_notice import AccountName, AuditNotice
from beamhub_core.word import Word


class AuditQuestion(Word):
    """Which entries, and which page of them."""

    account: AccountName | None = None
    proposal: Annotated[str | None, Field(max_length=200)] = None
    kind: Annotated[str | None, Field(pattern=r"^[a-z_]{1,40}$")] = None
    since: AwareDatetime | None = None
    before: Annotated[int | None, Field(ge=1, le=2**62)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


class InternalAudit:
    """The handlers of `/internal/audit`."""

    def __init__(self, desk: Desk, clients: tuple[Client, ...]) -> None:
        self._desk, self._database, self._clients = desk, desk.database, clients

    def write(self, request: Request, notice: AuditNotice, response: Response) -> dict[str, Any]:
        """Append what another process tells, once."""
        client = check_scope(request, self._clients, "audit:write")
        reference = f"{client.name}:{notice.reference}"
        given = {"code": notice.code, "issuer": notice.issuer, "plan_id": notice.plan_id}
        facts = {name: value for name, value in given.items() if value is not None}
        with self._database.writing() as session:
            known = recorded_under(session, reference)
            if known is not None:
                who, whom = (
                    find_pseudonym(session, "person", name) if name else None
                    for name in (notice.account, notice.about)
                )
                if not _is_same(known, notice, facts, who, whom):
                    raise HTTPException(409, "Another entry has this reference.")
                response.status_code = 200
                return {"seq": known.seq}
            service = client.name if notice.account is None else None
            context = Context(about=notice.about, service=service, reference=reference)
            try:
                row = record(
                    session,
                    notice.kind,
                    notice.plan_id or "",
                    self._desk.clock(),
                    account=notice.account,
                    context=context,
                    **facts,
                )
            except NotRecordable as error:
                raise HTTPException(422, str(error)) from None
            return {"seq": row.seq}

    def read(self, request: Request, question: Annotated[AuditQuestion, Query()]) -> dict[str, Any]:
        """A page of entries as they stand; that they were read is an entry itself."""
        client = check_scope(request, self._clients, "audit:read")
        account, proposal = question.account, question.proposal
        which = EntryFilter(account, proposal, question.kind, _in_utc(question.since))
        with self._database.reading() as session:
            page = all_entries(session, which, question.before, question.limit)
        of = "person" if account else "proposal" if proposal else "all"
        touched = (proposal,) if proposal else ()
        with self._database.writing() as session:
            context = Context(about=account, service=client.name, proposals=touched)
            at, n_entries = self._desk.clock(), len(page.entries)
            record(session, "entries_read", "", at, context=context, of=of, n_entries=n_entries)
        return {"entries": [dataclasses.asdict(entry) for entry in page.entries], "before": page.before}


def _is_same(
    row: AuditRow, notice: AuditNotice, facts: dict[str, Any], who: str | None, whom: str | None
) -> bool:
    by_service = notice.account is None and row.actor_kind == "service"
    actor = row.actor if by_service else who
    told = {name: value for name, value in row.detail.items() if value is not None and name in facts}
    return (row.kind, row.actor, row.about, told) == (notice.kind, actor, whom, facts)


def _in_utc(when: datetime | None) -> datetime | None:
    try:
        return when.astimezone(UTC) if when is not None else None
    except OverflowError:
        raise HTTPException(422, "since is no time between the years 1 and 9999.") from None
