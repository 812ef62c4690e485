"""The part of `beamhub check` about storage: how each pool is now, and what was declared of it."""

from __future__ import annotations

from collections.abc import Iterator

from beamhub_core.check_finding import Finding
from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import (
    HomesConfig,
    PlaceConfig,
    PoolConfig,
    ScratchConfig,
    SessionsConfig,
)
from beamhub_core.pool_health import Folder, PoolWatch, pool_folder


def check_storage(config: FacilityConfig, *, live: bool) -> Iterator[Finding]:
    """What to know of pools, homes and scratch. Nothing of it waits for a file server that hangs."""
    watch = PoolWatch()
    try:
        yield from _pools(config, watch, live=live)
        yield from _person_folders(config, watch, live=live)
    finally:
        watch.close()


def declared(pool: PoolConfig) -> str:
    """The declared modes of a pool, in words."""
    groups = {
        "server": "its server expands groups",
        "auth_sys": "it takes 16 groups of a person (AUTH_SYS)",
    }
    squash = {
        "none": "nobody is squashed",
        "root": "root is squashed: folders are made as the person",
        "all": "everybody is squashed: nothing is writable",
    }
    words = [
        "mounted read-only" if pool.access == "ro" else "writable where roles allow it",
        groups[pool.group_mode],
        squash[pool.squash],
    ]
    if pool.propagation == "host_to_container":
        words.append("later mounts of the host appear in running sessions")
    if pool.recursive_read_only:
        words.append("mounts below it must be seen read-only (engine 25)")
    if pool.must_be_mount:
        words.append("must be a mount point")
    return ", ".join(words)


def _pools(config: FacilityConfig, watch: PoolWatch, *, live: bool) -> Iterator[Finding]:
    states = watch.states(pool_folder(pool, try_write=live) for pool in config.pools)
    for i, pool in enumerate(config.pools):
        state = states[pool.name]
        where = f"pools[{i}].root"
        elsewhere = _seen_elsewhere(pool, config.sessions)
        if state.reason and elsewhere:
            yield Finding(
                "note",
                f"pools[{i}]",
                f"{pool.name}: {pool.root} here: {state.reason}; for sessions it is looked at on the hosts "
                f"of {', '.join(elsewhere)}, by their agents, and web must see it to harvest it",
            )
        elif not state.is_readable:
            hint = "mount the storage here, or correct the path"
            if state.since is not None:
                hint = "look at the file server; sessions that need this pool are refused meanwhile"
            yield Finding("problem", where, f"{pool.root}: {state.reason}", hint)
        elif state.reason:
            hint = "make room; results can be written nowhere else than to homes meanwhile"
            if not state.is_full:
                hint = "mount it writable, or declare access: ro"
            yield Finding("problem", where, f"{pool.root}: {state.reason}", hint)
        else:
            tried = "answers, can be written to" if live and pool.takes_writes else "answers"
            yield Finding("note", f"pools[{i}]", f"{pool.name} {tried}; declared: {declared(pool)}")


def _seen_elsewhere(pool: PoolConfig, sessions: SessionsConfig) -> tuple[str, ...]:
    """The places whose sessions mount a pool, where none of them mounts it on this machine."""
    places = [place for place in sessions.places if pool.name in place.pools]
    return () if any(looks_here(place) for place in places) else tuple(place.name for place in places)


def _person_folders(config: FacilityConfig, watch: PoolWatch, *, live: bool) -> Iterator[Finding]:
    sessions = config.sessions
    yield from _quota("sessions.homes", "home", sessions.homes)
    yield from _homes(sessions, watch)
    folders = {"sessions.homes.unmapped_folder": sessions.homes.unmapped_folder}
    if sessions.scratch is not None:
        yield from _quota("sessions.scratch", "scratch folder", sessions.scratch)
        folders["sessions.scratch.folder"] = sessions.scratch.folder
    asked = [
        Folder(where, str(folder), ("write",) if live else ())
        for where, folder in folders.items()
        if folder is not None
    ]
    for where, state in watch.states(asked).items():
        if state.reason:
            yield Finding(
                "problem", where, f"{folders[where]}: {state.reason}", f"mkdir -p -m 0711 {folders[where]}"
            )
    runs_containers = any(place.backend != "local" for place in sessions.places)
    if runs_containers and sessions.homes.unmapped_folder is None:
        yield Finding(
            "warning",
            "sessions.homes.unmapped_folder",
            "is not set: people without a numeric identity at the facility have their homes in "
            f"{sessions.homes_folder}, too",
            "name a folder outside the facility's own storage",
        )


def _homes(sessions: SessionsConfig, watch: PoolWatch) -> Iterator[Finding]:
    where, folder = "sessions.homes_folder", sessions.homes_folder
    if not any(looks_here(place) for place in sessions.places):
        yield Finding("note", where, f"{folder} is looked at on the hosts of the places, by their agents")
        return
    [state] = watch.states([Folder(where, str(folder), ("write",))]).values()
    if state.since is not None:
        yield Finding("problem", where, f"{folder}: {state.reason}", "look at the file server")
    elif state.reason:
        hint = f"mkdir -p -m 0711 {folder}, owned by the platform"
        yield Finding("problem", where, f"{folder}: {state.reason}", hint)


def looks_here(place: PlaceConfig) -> bool:
    """Whether the homes of a place's sessions are made and looked at on this machine."""
    if place.docker is not None:
        return place.docker.unsafe_direct_socket
    return place.backend == "local"


def _quota(where: str, what: str, quota: HomesConfig | ScratchConfig) -> Iterator[Finding]:
    if quota.quota_gib is None:
        yield Finding("note", where, f"a {what} has no limit")
    elif quota.quota_command:
        program = quota.quota_command[0]
        yield Finding("note", where, f"a {what} holds {quota.quota_gib:g} GiB, set by {program}")
    else:
        yield Finding(
            "warning",
            where,
            f"a {what} should hold {quota.quota_gib:g} GiB, which is measured and told, not enforced",
            "set quota_command where the file system has quotas",
        )
