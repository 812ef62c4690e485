"""Which folders of the pools a session sees, and how: from grants to mounts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    """The mounts of a session's data, and what of its datasets stays outside."""

    mounts: tuple[Mount, ...]
    used: tuple[Grant, ...]
    ungranted: tuple[PoolPath, ...]


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


def choose_mounts(answer: GrantAnswer, pools: Mapping[str, PoolConfig], *, at: datetime) -> MountChoice:
    """The folders to mount for the datasets of an answer.

    Wanted are each dataset's folder, the folders that its links lead to, and the processed folders
    that may be written. Mounted is what a grant covers, never more than was wanted; raw data
    always read-only, whatever a grant says. A folder inside another of the same or a wider mode is
    part of it; a writable one inside a read-only one stays a mount of its own, after its parent.

    Parameters
    ----------
    answer:
        The rights, as web decided them. A grant that ended before `at` counts for nothing.
    pools:
        The configured pools by name; a folder of an unknown pool is ungranted.
    """
    live = [grant for grant in answer.grants if grant.until is None or grant.until > at]
    live = [grant for grant in live if grant.folder.pool in pools]
    wanted: dict[tuple[str, tuple[str, ...]], Mount] = {}
    used: list[Grant] = []
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
            used.append(grant)
            wanted[grant.folder.pool, parts_of(grant.folder)] = _mount(
                grant.folder, pools, mode="rw", proposal=grant.proposal, pid=None
            )
    return MountChoice(
        mounts=tuple(_merged(wanted.values())),
        used=tuple(used),
        ungranted=tuple(_each_once(folder for folder in ungranted)),
    )


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
            "pid": pid,
            "proposal": proposal,
        }
    )


def _merged(mounts: Iterable[Mount]) -> Iterator[Mount]:
    """The mounts without those that lie in another of the same or a wider mode; parents first."""
    kept: list[tuple[PoolPath, Mount]] = []
    for mount in sorted(mounts, key=lambda mount: (mount.pool, PurePosixPath(mount.path).parts)):
        folder = PoolPath(pool=mount.pool, path=mount.path)
        parents = [parent for outer, parent in kept if covers(outer, folder)]
        if any(parent.mode in ("rw", mount.mode) for parent in parents):
            continue
        kept.append((folder, mount))
        yield mount


def _each_once(folders: Iterable[PoolPath]) -> list[PoolPath]:
    unique = {(folder.pool, parts_of(folder)): folder for folder in folders}
    return [unique[key] for key in sorted(unique)]
