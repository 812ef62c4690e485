"""The folders of a plan on the host that mounts them: made, given quotas, looked at before the mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PoolConfig
from beamhub_core.session import Mount, SessionPlan
from beamhub_spawners.folder_work import FolderUnfit, Identity, Step, do_steps
from beamhub_spawners.paths import PathEscapes
from beamhub_spawners.person_mounts import person_root
from beamhub_spawners.session_view import NOTEBOOKS

HOME_MODE = 0o700
PROCESSED_MODE = 0o2770  # what is made below belongs to the proposal's group, too
QUOTA_LIMIT_S = 30.0
FOLDERS_S = 45.0
"""How long the folders of one session may take: more than the facility's own command for quotas may."""
N_FOLDER_THREADS = 16
"""Of a hub, and of an agent: slow storage holds up its own starts only."""
OF_A_FOLDER = "a folder of the plan: "
"""How an agent begins what it says of a folder that cannot be used."""


def check_and_ensure_folders(plan: SessionPlan, config: FacilityConfig, *, with_quotas: bool = True) -> None:
    """Make what the session writes to, set quotas, and resolve each source anew: a link may stand there now.

    Blocks, for a limited time; call it in a thread. Folders of root-squashed pools are resolved and made by a
    child that is the person, and the host's own root must be able to pass to them: the engine mounts as root.

    Parameters
    ----------
    with_quotas:
        False where they were set a moment ago.

    Raises
    ------
    FolderUnfit
        With a reason fit for the person. It is a `PathEscapes`, as is a source outside the configured
        folders.
    """
    _check_roots(plan, config)
    pools = {pool.name: pool for pool in config.pools}
    owner = _owner(plan)
    first: list[Step] = []
    then: list[Step] = []
    for mount in plan.mounts:
        pool = pools.get(mount.pool)
        if pool is not None and pool.squash == "root" and owner is not None:
            if plan.place.backend != "local":
                first.append({"do": "enter", "root": str(pool.root), "path": mount.path, "pool": pool.name})
            then.append(_step(mount, pool.root, owner, plan.gids))
        else:
            root = pool.root if pool is not None else person_root(mount, config.sessions)
            first.append(_step(mount, Path(root or ""), owner, plan.gids))
    identity = Identity(*owner, plan.gids) if owner is not None and then else None
    do_steps(first, then, as_=identity)
    for mount in plan.mounts if with_quotas else ():
        _set_quota(mount, plan, config)


def unfit_in_words(error: PathEscapes, plan: SessionPlan) -> str:
    """What to tell the person of a folder that cannot be used; the facility's own paths stay in the log."""
    named = (
        "its home or scratch folder"
        if error.path.split("/")[0] == plan.account
        else f"its folder {error.path}"
    )
    return f"{named}: {error.reason}"


def mount_root(mount: Mount, config: FacilityConfig) -> Path | None:
    """The configured folder that a mount lies in; None for a mount that lies in none."""
    if mount.purpose in ("home", "scratch"):
        return person_root(mount, config.sessions)
    pool = next((pool for pool in config.pools if pool.name == mount.pool), None)
    is_below = pool is not None and str(pool.root / mount.path) == mount.source
    return pool.root if pool is not None and is_below else None


def _check_roots(plan: SessionPlan, config: FacilityConfig) -> None:
    pools: dict[str, PoolConfig] = {pool.name: pool for pool in config.pools}
    for mount in plan.mounts:
        if mount_root(mount, config) is None:
            raise FolderUnfit(mount.source, mount.path, "it lies in no configured storage pool or folder")
        pool = pools.get(mount.pool)
        if mount.mode == "rw" and pool is not None and not pool.takes_writes:
            raise FolderUnfit(mount.source, mount.path, f"storage pool {pool.name} takes no writes")


def _owner(plan: SessionPlan) -> tuple[int, int] | None:
    """Whose the folders are, where this process may give them away."""
    if os.geteuid() != 0 or not plan.uid or not plan.gid:
        return None
    return plan.uid, plan.gid


def _step(mount: Mount, root: Path, owner: tuple[int, int] | None, gids: tuple[int, ...]) -> Step:
    here: dict[str, Any] = {"root": str(root), "path": mount.path}
    if mount.purpose in ("home", "scratch"):
        person = {**here, "mode": HOME_MODE, "owner": owner}
        if mount.purpose == "home":
            return {"do": "ensure_home", **person, "notebooks": NOTEBOOKS}
        return {"do": "ensure", **person}
    if mount.mode == "ro":
        return {"do": "check", **here}
    groups = [owner[1], *gids] if owner is not None else [*gids]
    return {"do": "ensure", **here, "mode": PROCESSED_MODE, "owner": owner, "groups": groups}


def _set_quota(mount: Mount, plan: SessionPlan, config: FacilityConfig) -> None:
    sessions = config.sessions
    quota = {"home": sessions.homes, "scratch": sessions.scratch}.get(mount.purpose)
    if quota is None or not quota.quota_command or quota.quota_gib is None:
        return
    uid = plan.uid if plan.uid else os.geteuid()
    command = [*quota.quota_command, str(uid), mount.source, str(int(quota.quota_gib * 2**30))]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=QUOTA_LIMIT_S,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
        reason = f"its quota could not be set (the facility's program ended with {done.returncode})"
        is_set = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        reason, is_set = f"its quota could not be set ({type(error).__name__})", False
    if not is_set:
        raise FolderUnfit(mount.source, mount.path, reason)
