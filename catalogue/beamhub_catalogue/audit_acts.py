"""What the internal API does, as entries of the audit: which proposals it touches, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import NO_CONTEXT, Context, record, recorded_under
from beamhub_catalogue.database import Database
from beamhub_catalogue.grants import GrantedAnswer, proposal_of
from beamhub_catalogue.models import ActRow, DatasetRow, GovernorRow, SessionMountRow
from beamhub_catalogue.texts import among, is_storable
from beamhub_core.config.login import LoginConfig
from beamhub_core.entitled_proposals import entitled_roles
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal
from beamhub_core.session import SessionPlan, SessionVerdict

Part = dict[str, Any]


def record_push(
    session: Session, before: Principal | None, after: Principal, login: LoginConfig, now: datetime
) -> None:
    """A new account, or a push that changed rights; one that changed none leaves no entry.

    Logins are told by the hub, which alone sees them.
    """
    if before is None:
        facts: dict[str, Any] = {"issuer": after.issuer, "roles": list(after.roles)}
        record(session, "account_known", "", now, account=after.account, **facts)
        return
    had, has = set(entitled_roles(before, login).items()), set(entitled_roles(after, login).items())
    gained, lost = (sorted({proposal for proposal, _ in found}) for found in (has - had, had - has))
    same_assurance = (before.assurance, before.acr) == (after.assurance, after.acr)
    if gained or lost or before.roles != after.roles or not same_assurance:
        record(
            session,
            "rights_changed",
            "",
            now,
            context=Context(about=after.account, proposals=[*gained, *lost]),
            gained=gained,
            lost=lost,
            roles=list(after.roles),
            assurance_changed=not same_assurance,
        )


def record_decision(
    session: Session, account: str, pids: tuple[str, ...], answer: GrantedAnswer | Refusal, now: datetime
) -> None:
    """What was decided on named datasets.

    A name that the catalogue does not know is anybody's text, and what is hashed cannot be unsaid: only their
    number is kept. A hidden dataset is kept, for its investigator; the person who asked is not shown it.
    """
    asked = tuple(dict.fromkeys(pids))
    found = session.execute(
        select(DatasetRow.pid, DatasetRow.proposal).where(
            among(session, DatasetRow.pid, filter(is_storable, asked))
        )
    ).all()
    facts: dict[str, Any] = {"n_unknown": len(asked) - len(found)}
    if isinstance(answer, Refusal):
        parts: list[Part] = [{"proposal": proposal, "pid": pid} for pid, proposal in found]
        facts |= {"decision": answer.code, "refusal_reference": answer.reference}
    else:
        parts = [folder._asdict() for folder in answer.folders]
        facts |= {"decision": "granted", "policy_version": answer.policy_version}
    subject = asked[0] if len(found) == len(asked) == 1 else ""
    record(session, "decision", subject, now, account=account, parts=parts, **facts)


def record_plan(session: Session, plan: SessionPlan, plan_hash: str, now: datetime) -> None:
    """A plan with every mount of data; what belongs to the person is counted, its path names the account."""
    data = [mount for mount in plan.mounts if mount.purpose in ("raw", "processed")]
    parts: list[Part] = [
        {
            "proposal": proposal_of(mount.path),
            "pid": mount.pid,
            "pool": mount.pool,
            "path": mount.path,
            "mode": mount.mode,
        }
        for mount in data
    ]
    record(
        session,
        "plan",
        plan.id,
        now,
        account=plan.account,
        parts=parts,
        context=Context(proposals={dataset.proposal for dataset in plan.datasets}),
        plan_hash=plan_hash,
        datasets=[dataset.pid for dataset in plan.datasets],
        n_own_mounts=len(plan.mounts) - len(data),
        place=plan.place.name,
        policy_version=plan.policy_version,
    )


def record_verdicts(database: Database, verdicts: Iterable[SessionVerdict], now: datetime) -> None:
    """The verdicts that ask for a stop, each once: a re-check repeats them until the session has ended."""
    stops = [verdict for verdict in verdicts if verdict.action == "stop"]
    if not stops:
        return
    with database.writing() as session:
        for verdict in stops:
            told = hashlib.sha256(verdict.reason.encode()).hexdigest()[:16]
            reference = f"recheck:{verdict.plan_id}:{told}"
            if recorded_under(session, reference) is None:
                query = select(SessionMountRow.path).where(SessionMountRow.plan_id == verdict.plan_id)
                touched = {proposal_of(path) for path in session.scalars(query)}
                record(
                    session,
                    "recheck",
                    verdict.plan_id,
                    now,
                    context=Context(about=verdict.account, proposals=touched, reference=reference),
                    action=verdict.action,
                    reason=verdict.reason[:300],
                )


def record_product(session: Session, row: DatasetRow, account: str, plan_id: str, now: datetime) -> None:
    """A product was catalogued: it touches its own proposal and those of everything it was made from."""
    sources = session.scalars(
        select(DatasetRow.proposal)
        .join(GovernorRow, GovernorRow.governor_id == DatasetRow.id)
        .where(GovernorRow.product_id == row.id)
        .distinct()
    )
    sha256 = (row.product or {}).get("sha256")
    record(
        session,
        "product",
        row.pid,
        now,
        account=account,
        context=Context(proposals={row.proposal, *sources}),
        plan_id=plan_id,
        sha256=sha256,
    )


def record_act(
    session: Session, kind: Literal["act", "act_revoked"], row: ActRow, now: datetime, *, by: Context | str
) -> None:
    """An act upon a proposal was made or taken back, by an account or by whom a context names."""
    account, context = (by, NO_CONTEXT) if isinstance(by, str) else (None, by)
    record(
        session,
        kind,
        row.pid or row.proposal,
        now,
        account=account,
        context=replace(context, proposals=[row.proposal]),
        act=row.kind,
        act_id=row.id,
    )
