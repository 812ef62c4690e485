"""The folders that a session writes to, ensured before it starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from beamhub_core.config.storage import PoolConfig
from beamhub_core.session import SessionPlan
from beamhub_spawners.paths import PathEscapes, ensure_folder_beneath
from beamhub_spawners.session_view import NOTEBOOKS

HOME_MODE = 0o700
PROCESSED_MODE = 0o770
Owner = tuple[int, int]


def ensure_person_folders(
    plan: SessionPlan, pools: Iterable[PoolConfig], homes_folder: Path, *, owner: Owner | None = None
) -> None:
    """The home, with its notebooks folder, and the processed folders that a plan may write.

    Parameters
    ----------
    owner:
        Numeric identity that new folders are given, by a hub that may; an existing folder keeps its own.

    Raises
    ------
    PathEscapes
        If one of them is a link or something that is no folder.
    """
    roots = {pool.name: pool.root for pool in pools}
    homes_folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    give_to = owner if os.geteuid() == 0 else None
    for mount in plan.mounts:
        if mount.purpose == "home":
            is_new = ensure_folder_beneath(homes_folder, mount.path, mode=HOME_MODE, owner=give_to)
            if is_new or owner is None:
                # In a home of another user the session makes it itself. Whatever the person put in
                # its place is theirs: the session follows it, not we.
                with contextlib.suppress(PathEscapes):
                    notebooks = f"{mount.path}/{NOTEBOOKS}"
                    ensure_folder_beneath(homes_folder, notebooks, mode=HOME_MODE, owner=give_to)
        elif mount.mode == "rw":
            ensure_folder_beneath(roots[mount.pool], mount.path, mode=PROCESSED_MODE, owner=give_to)
