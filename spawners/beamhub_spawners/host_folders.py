"""The folders of a plan on the host that mounts them: made, and looked at again right before the mount."""

from __future__ import annotations

from beamhub_core.config import FacilityConfig
from beamhub_core.session import SessionPlan
from beamhub_spawners.paths import check_beneath
from beamhub_spawners.person_folders import ensure_person_folders


def check_and_ensure_folders(plan: SessionPlan, config: FacilityConfig) -> None:
    """Make what the session writes to, then resolve each source: somebody may have put a link where a folder
    was.

    Raises
    ------
    PathEscapes, OSError
        If a folder cannot be made, or a source is gone or reached over a link.
    """
    owner = (plan.uid or -1, plan.gid or -1)
    ensure_person_folders(plan, config.pools, config.sessions.homes_folder, owner=owner)
    roots = {pool.name: pool.root for pool in config.pools}
    for mount in plan.mounts:
        root = config.sessions.homes_folder if mount.purpose == "home" else roots[mount.pool]
        check_beneath(root, mount.path)
