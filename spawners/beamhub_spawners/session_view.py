"""What a person sees in the file browser of a session: folders of links to what the plan granted.

    data/<proposal>/<dataset>   the dataset's folder, at the facility's own path
    processed/<proposal>        where results of the proposal go
    notebooks, home, scratch    the person's own

The server's root folder is this view, so `/lab/tree/notebooks/...` opens the person's own notebooks
and `data/` is browsed beside them. The view itself is not writable; what it links to may be.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from beamhub_core.session import SessionInfo, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.plan import proposals_in

NOTEBOOKS = "notebooks"
ENFORCED = {
    "raw_read_only": True,
    "ungranted_unreadable": True,
    "other_processes_unreadable": True,
    "signals_scoped": True,
    "abstract_sockets": True,
    "own_numeric_identity": True,
    "memory": True,
}
"""What a container or a pod promises; engine or nodes enforce it whatever runs inside."""
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def session_info(plan: SessionPlan, *, enforced: dict[str, bool]) -> SessionInfo:
    """What a running server is told of its own plan."""
    home = next(mount.target for mount in plan.mounts if mount.purpose == "home")
    return SessionInfo(
        plan_id=plan.id,
        plan_hash=digest(plan),
        account=plan.account,
        who=plan.principal_label,
        place=plan.place.name,
        datasets=plan.datasets,
        processed=proposals_in(plan.mounts),
        home=home,
        scratch=next((mount.target for mount in plan.mounts if mount.purpose == "scratch"), None),
        template=plan.template,
        environment=plan.environment,
        image=plan.image,
        cluster_limits=plan.cluster_limits,
        expires_at=plan.expires_at,
        enforced=enforced,
        is_rescue=plan.is_rescue,
        notes=plan.explain.notes,
    )


def view_links(info: SessionInfo) -> dict[str, str]:
    """The links of a session's view: path below the view to absolute target. Pure."""
    links = {NOTEBOOKS: str(PurePosixPath(info.home) / NOTEBOOKS), "home": info.home}
    if info.scratch is not None:
        links["scratch"] = info.scratch
    for dataset in info.datasets:
        folder = PurePosixPath("data") / _plain(dataset.proposal)
        name = _plain(dataset.pid.rsplit(":", 1)[-1])
        links[_free(str(folder / name), links)] = str(PurePosixPath(dataset.file).parent)
    for proposal, target in info.processed.items():
        links[_free(f"processed/{_plain(proposal)}", links)] = target
    return links


def write_view(folder: Path, links: dict[str, str]) -> None:
    """Make the links in an empty folder."""
    for name, target in links.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _plain(name: str) -> str:
    """A name that stays one component of a path and is neither hidden nor `..`."""
    return _NOT_IN_A_NAME.sub("_", name).lstrip(".") or "_"


def _free(path: str, taken: dict[str, str]) -> str:
    if path not in taken:
        return path
    i = next(i for i in range(2, len(taken) + 3) if f"{path}_{i}" not in taken)
    return f"{path}_{i}"
