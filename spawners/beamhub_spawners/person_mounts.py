"""The folders that belong to the person of a session: home and scratch. Pure."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from beamhub_core.config.storage import SessionsConfig
from beamhub_core.session import Mount, Place


def person_mounts(
    account: str, place: Place, sessions: SessionsConfig, *, is_mapped: bool
) -> tuple[Mount, ...]:
    """The home and, where the facility has it, the scratch folder of an account.

    Parameters
    ----------
    is_mapped:
        Whether the facility knows the account's numeric identity. One that it does not know has its home in
        `homes.unmapped_folder`, where that is configured.
    """
    homes = home_folder(sessions, is_mapped=is_mapped)
    mounts = [_mount("home", account, homes, place)]
    if sessions.scratch is not None:
        mounts.append(_mount("scratch", account, sessions.scratch.folder, place))
    return tuple(mounts)


def home_folder(sessions: SessionsConfig, *, is_mapped: bool) -> Path:
    """Where the homes of an account's kind lie."""
    unmapped = sessions.homes.unmapped_folder
    return sessions.homes_folder if is_mapped or unmapped is None else unmapped


def person_root(mount: Mount, sessions: SessionsConfig) -> Path | None:
    """The configured folder that a home or scratch mount lies in; None for a source that is in none."""
    scratch = sessions.scratch.folder if sessions.scratch is not None else None
    homes = (sessions.homes_folder, sessions.homes.unmapped_folder)
    for root in homes if mount.purpose == "home" else (scratch,):
        if root is not None and str(PurePosixPath(root) / mount.path) == mount.source:
            return root
    return None


def _mount(purpose: str, account: str, folder: Path, place: Place) -> Mount:
    source = str(folder / account)
    inside = "/home" if purpose == "home" else "/scratch"
    target = source if place.backend == "local" else f"{inside}/{account}"
    return Mount.model_validate(
        {
            "pool": purpose,
            "path": account,
            "source": source,
            "target": target,
            "mode": "rw",
            "purpose": purpose,
        }
    )
