"""Which folders of the pools a session sees, and how: from grants to mounts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from beamhub_core.config.storage import PoolConfig
from beamhub_core.rights import Grant, GrantAnswer, PoolPath
from beamhub_core.session import Mount

MAX_MOUNTS = 64
PROCESSED = "processed"


@dataclass(frozen=True, slots=True)
class MountChoice:
    """The mounts of a session's data, what of its datasets stays outside, and what to tell the person."""

    mounts: tuple[Mount, ...]
    used: tuple[Grant, ...]
    ungranted: tuple[PoolPath, ...]
    notes: tuple[str, ...] = ()


def parts_of(path: PoolPath) -> tuple[str, ...]:
    """The components of a path below its pool."""
    return PurePosixPath(path.path).parts


def covers(outer: PoolPath, inner: PoolPath) -> bool:
    """Whether a folder is another or holds it; by components, so `P1` never covers `P10`."""
    parts = parts_of(outer)
    return outer.pool == inner.pool and parts_of(inner)[: len(parts)] == parts


def is_processed(folder: PoolPath) -> bool:
    """Whether a folder is a proposal's processed folder or below it; the rest of a pool is raw."""
    return parts_of(folder)[1:2] == (PROCESSED,)


def choose_mounts(
    answer: GrantAnswer,
    pools: Mapping[str, PoolConfig],
    *,
    at: datetime,
    read_only: Collection[str] = (),
    at_most: int = MAX_MOUNTS,
) -> MountChoice:
    """The folders to mount for the datasets of an answer.

    Wanted are each dataset's folder, the folders that its links lead to, and the processed folders
    that may be written. Mounted is what a grant covers, never more than was wanted; raw data
    always read-only, whatever a grant says. A folder inside another of the same or a wider mode is
    part of it; a writable one inside a read-only one stays a mount of its own, after its parent. Only where
    that makes more than `at_most` mounts, the whole folder of a proposal stands for its parts, if one grant
    covers it.

    Parameters
    ----------
    answer:
        The rights, as web decided them. A grant that ended before `at` counts for nothing.
    pools:
        The configured pools by name; a folder of an unknown pool is ungranted. A pool that takes no writes
        has no writable mount, and a note says so.
    read_only:
        Pools that cannot be written at the place now.
    """
    live = [grant for grant in answer.grants if grant.until is None or grant.until > at]
    live = [grant for grant in live if grant.folder.pool in pools]
    wanted: dict[tuple[str, tuple[str, ...]], Mount] = {}
    used: list[Grant] = []
    notes: list[str] = []
    ungranted = list(answer.ungranted_links)
    for folder, proposal, pid in _wanted_raw(answer):
        grant = _first_cover(live, folder)
        if grant is None:
            ungranted.append(folder)
            continue
        used.append(grant)
        key = (folder.pool, parts_of(folder))
        wanted.setdefault(key, _mount(folder, pools, mode="ro", proposal=proposal, pid=pid))
    for grant in sorted(live, key=lambda grant: (grant.folder.pool, grant.folder.path)):
        if grant.mode == "rw" and is_processed(grant.folder):
            reason = _no_writes(pools[grant.folder.pool], read_only)
            if reason is not None:
                notes.append(
                    f"{grant.folder.path} cannot be written here: {reason}. Results go to your home."
                )
                continue
            used.append(grant)
            wanted[grant.folder.pool, parts_of(grant.folder)] = _mount(
                grant.folder, pools, mode="rw", proposal=grant.proposal, pid=None
            )
    mounts = list(_merged(wanted.values()))
    for whole in _whole_proposals(mounts, live) if len(mounts) > at_most else ():
        used.append(whole)
        folder = whole.folder.model_copy(update={"path": parts_of(whole.folder)[0]})
        mounts.append(_mount(folder, pools, mode="ro", proposal=whole.proposal, pid=None))
        mounts = list(_merged(mounts))
        notes.append(f"All of {folder.path} is mounted: its folders alone would be too many.")
        if len(mounts) <= at_most:
            break
    return MountChoice(
        mounts=tuple(mounts),
        used=tuple(used),
        ungranted=tuple(_each_once(folder for folder in ungranted)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _no_writes(pool: PoolConfig, read_only: Collection[str]) -> str | None:
    """Why nothing of a pool can be mounted writable; None where it can."""
    if pool.squash == "all":
        return f"the server of storage pool {pool.name} takes everybody for nobody"
    if pool.access == "ro":
        return f"storage pool {pool.name} is mounted read-only"
    return f"storage pool {pool.name} is read-only there now" if pool.name in read_only else None


def _whole_proposals(mounts: Iterable[Mount], grants: Iterable[Grant]) -> Iterator[Grant]:
    """A grant that covers all of a proposal's folder, for each that has several mounts; the most first."""
    counts = Counter((mount.pool, parts_of(mounted(mount))[0]) for mount in mounts if mount.mode == "ro")
    for (pool, proposal), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        whole = _first_cover(grants, PoolPath(pool=pool, path=proposal)) if count > 1 else None
        if whole is not None:
            yield whole


def mounted(mount: Mount) -> PoolPath:
    """The folder of a pool that a mount shows."""
    return PoolPath(pool=mount.pool, path=mount.path)


def _wanted_raw(answer: GrantAnswer) -> Iterator[tuple[PoolPath, str, str]]:
    for dataset in sorted(answer.datasets, key=lambda dataset: dataset.pid):
        yield dataset.folder, dataset.proposal, dataset.pid
        for folder in dataset.link_closure:
            yield folder, parts_of(folder)[0], dataset.pid


def _first_cover(grants: Iterable[Grant], folder: PoolPath) -> Grant | None:
    """The grant that lasts longest of those that cover a folder."""
    covering = [grant for grant in grants if covers(grant.folder, folder)]
    return max(
        covering,
        key=lambda grant: (grant.until is None, grant.until and grant.until.timestamp(), grant.folder.path),
        default=None,
    )


def _mount(
    folder: PoolPath, pools: Mapping[str, PoolConfig], *, mode: str, proposal: str, pid: str | None
) -> Mount:
    pool = pools[folder.pool]
    return Mount.model_validate(
        {
            "pool": pool.name,
            "path": folder.path,
            "source": str(PurePosixPath(pool.root) / folder.path),
            "target": str(PurePosixPath(pool.target) / folder.path),
            "mode": mode,
            "purpose": "processed" if is_processed(folder) else "raw",
            "propagation": pool.propagation,
            "pid": pid,
            "proposal": proposal,
        }
    )


def _merged(mounts: Iterable[Mount]) -> Iterator[Mount]:
    """The mounts without those that lie in another of the same or a wider mode; parents first."""
    kept: list[tuple[PoolPath, Mount]] = []
    for mount in sorted(mounts, key=lambda mount: (mount.pool, PurePosixPath(mount.path).parts)):
        folder = mounted(mount)
        parents = [parent for outer, parent in kept if covers(outer, folder)]
        if any(parent.mode in ("rw", mount.mode) for parent in parents):
            continue
        kept.append((folder, mount))
        yield mount


def _each_once(folders: Iterable[PoolPath]) -> list[PoolPath]:
    unique = {(folder.pool, parts_of(folder)): folder for folder in folders}
    return [unique[key] for key in sorted(unique)]
