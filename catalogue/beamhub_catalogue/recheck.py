"""Rights while a session runs: what of its plan its owner may no longer touch, and what to do about it."""

from __future__ import annotations

from datetime import datetime, timedelta

from beamhub_catalogue.grants import may_mount, proposal_of
from beamhub_catalogue.queries import Catalogue
from beamhub_core.policy import Decision
from beamhub_core.rights import PoolPath
from beamhub_core.session import Mount, SessionPlan, SessionVerdict

WARN_BEFORE = timedelta(hours=1)


def verdict_of(plan: SessionPlan, catalogue: Catalogue | None, wall_now: datetime) -> SessionVerdict:
    """What the hub should do with a running session.

    Parameters
    ----------
    catalogue:
        As the session's owner sees it now; None when the account's rights were ended.
    wall_now:
        The machine's clock, by which the hub made `plan.expires_at`.
    """
    if catalogue is None:
        return _verdict(plan, "stop", "The account's rights were ended.", None)
    ends: list[datetime] = []
    for mount in plan.mounts:
        if mount.purpose not in ("raw", "processed"):
            continue
        decision = _decision_on(mount, catalogue)
        if decision is None:
            where = mount.pid or mount.proposal or mount.path
            return _verdict(plan, "stop", f"The right to {where} ended.", catalogue.now)
        if decision.until is not None:
            ends.append(decision.until)
    if wall_now >= plan.expires_at:
        return _verdict(plan, "stop", "The session reached its lifetime.", plan.expires_at)
    if ends and min(ends) - catalogue.now <= WARN_BEFORE:
        return _verdict(plan, "warn", "A right that this session needs ends soon.", min(ends))
    if plan.expires_at - wall_now <= WARN_BEFORE:
        return _verdict(plan, "warn", "The session's lifetime ends soon.", plan.expires_at)
    return _verdict(plan, "none", "All rights hold.", None)


def _decision_on(mount: Mount, catalogue: Catalogue) -> Decision | None:
    """The decision that a mount stands on, None where it no longer holds.

    The path, not what the plan says of it, names the proposal.
    """
    proposal = proposal_of(mount.path)
    on_proposal = catalogue.judge.on_proposal(proposal)
    if mount.mode == "rw":
        return on_proposal if on_proposal.may_write else None
    row = catalogue.row(mount.pid) if mount.pid else None
    if row is not None and (row.pool, row.folder) == (mount.pool, mount.path):
        on_dataset = catalogue.judge.on_dataset(row)
        return on_dataset if on_dataset.may_read else None
    folder = PoolPath(pool=mount.pool, path=mount.path)
    return on_proposal if may_mount(catalogue, folder, on_proposal) else None


def _verdict(plan: SessionPlan, action: str, reason: str, deadline: datetime | None) -> SessionVerdict:
    return SessionVerdict.model_validate(
        {
            "plan_id": plan.id,
            "account": plan.account,
            "server_name": plan.server_name,
            "action": action,
            "reason": reason,
            "deadline": deadline,
        }
    )
