"""Grants on named datasets: what the hub may mount for an account, and what it may not."""

from __future__ import annotations

import secrets
from pathlib import PurePosixPath

from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.queries import Catalogue
from beamhub_core.policy import Decision
from beamhub_core.rights import DatasetRef, Grant, GrantAnswer, PoolPath, Refusal, Refused

HOME_POOL = "home"
PROCESSED = "processed"

NOT_FOUND_REASON = "There is no such dataset, or it is not for you to know."


def refusal(code: str, subject: str, reason: str, **facts: object) -> Refusal:
    """A refusal with a fresh reference for the log."""
    return Refusal.model_validate(
        {"code": code, "subject": subject[:300], "reason": reason[:500], "reference": secrets.token_hex(5)}
        | facts
    )


def answer_grants(catalogue: Catalogue, account: str, pids: tuple[str, ...]) -> GrantAnswer:
    """What an account may touch of the named datasets.

    Raises
    ------
    Refused
        For the first dataset that the account may not read: a session without one of its datasets would
        not be the one that was asked for.
    """
    refs: list[DatasetRef] = []
    grants: list[Grant] = []
    ungranted: list[PoolPath] = []
    for pid in pids:
        row = catalogue.row(pid)
        if row is None:
            raise Refused(refusal("not_found", pid, NOT_FOUND_REASON))
        decision = catalogue.judge.on_dataset(row)
        if not decision.may_read:
            raise Refused(
                refusal(decision.refusal or "not_found", pid, decision.reason, until=decision.opens_at)
            )
        if row.pool == HOME_POOL:
            raise Refused(refusal("bad_request", pid, "This product lies in your home; open it from there."))
        ref = dataset_ref(row)
        refs.append(ref)
        grants.append(_grant(account, ref.folder, decision, ref.proposal, pid))
        for folder in ref.link_closure:
            closure_decision = catalogue.judge.on_proposal(proposal_of(folder.path))
            if may_mount(catalogue, folder, closure_decision):
                grants.append(_grant(account, folder, closure_decision, proposal_of(folder.path), pid))
            else:
                ungranted.append(folder)
    grants += _writable(catalogue, account, refs)
    return GrantAnswer(
        account=account,
        datasets=tuple(refs),
        grants=_each_once(grants),
        ungranted_links=tuple(dict.fromkeys(ungranted)),
        policy_version=catalogue.policy.version,
        decided_at=catalogue.now,
    )


def dataset_ref(row: DatasetRow) -> DatasetRef:
    """Where a dataset lies. A product's folder is its own file: its neighbours have policies of their own."""
    return DatasetRef(
        pid=row.pid,
        proposal=row.proposal,
        title=row.title,
        technique=row.technique,
        instrument=row.instrument,
        folder=PoolPath(pool=row.pool, path=row.folder),
        file=row.file,
        size_bytes=row.size_bytes,
        link_closure=tuple(PoolPath.model_validate(folder) for folder in row.link_closure),
        missing_links=tuple(row.missing_links),
    )


def proposal_of(path: str) -> str:
    """The proposal that a path below a pool's root belongs to: its first component."""
    return PurePosixPath(path).parts[0]


def may_mount(catalogue: Catalogue, folder: PoolPath, decision: Decision) -> bool:
    """Whether a whole folder of a proposal may be mounted to read: it holds raw data only, none withdrawn."""
    parts = PurePosixPath(folder.path).parts
    if not decision.may_read or len(parts) < 2 or parts[1] == PROCESSED:
        return False
    return not catalogue.has_withdrawn_below(folder)


def _writable(catalogue: Catalogue, account: str, refs: list[DatasetRef]) -> list[Grant]:
    places = dict.fromkeys((ref.proposal, ref.folder.pool) for ref in refs)
    found: list[Grant] = []
    for proposal, pool in places:
        decision = catalogue.judge.on_proposal(proposal)
        if decision.may_write:
            folder = PoolPath(pool=pool, path=f"{proposal}/{PROCESSED}")
            found.append(_grant(account, folder, decision, proposal, None, mode="rw"))
    return found


def _grant(
    account: str, folder: PoolPath, decision: Decision, proposal: str, pid: str | None, mode: str = "ro"
) -> Grant:
    return Grant.model_validate(
        {
            "account": account,
            "folder": folder,
            "mode": mode,
            "because": decision.because,
            "detail": decision.detail,
            "until": decision.until,
            "pid": pid,
            "proposal": proposal,
            "required_assurance": decision.required_assurance,
        }
    )


def _each_once(grants: list[Grant]) -> tuple[Grant, ...]:
    """Two datasets may need one folder: it is granted once, for the first of them."""
    found: dict[tuple[str, str, str], Grant] = {}
    for grant in grants:
        found.setdefault((grant.folder.pool, grant.folder.path, grant.mode), grant)
    return tuple(found.values())
