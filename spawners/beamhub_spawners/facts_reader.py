"""Gather what a plan must know of the world: numbers, the home, the groups of folders."""

from __future__ import annotations

import asyncio
import contextlib
import os

from beamhub_core.clock import Clock
from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PoolConfig
from beamhub_core.identity import Principal
from beamhub_core.rights import GrantAnswer
from beamhub_core.session import Place
from beamhub_spawners.folder_work import FolderUnfit, Identity, do_steps
from beamhub_spawners.group_choice import MAX_SUPPLEMENTARY
from beamhub_spawners.home_usage import usage_note
from beamhub_spawners.host_homes import LOOK_LIMIT_S, AskHome, look_at_home
from beamhub_spawners.mounts import choose_mounts
from beamhub_spawners.person_mounts import home_folder
from beamhub_spawners.refusal import refuse
from beamhub_spawners.start_facts import StartFacts, is_mapped
from beamhub_spawners.uid_registry import NoNumber, UidRegistry


async def read_start_facts(
    answer: GrantAnswer,
    config: FacilityConfig,
    principal: Principal,
    place: Place,
    clock: Clock,
    ask_home: AskHome | None = None,
) -> StartFacts:
    """Look at the registry of numbers, the home, and the groups of the wanted folders.

    Parameters
    ----------
    ask_home:
        Asks the place's host for the home; without it this host is looked at.

    Raises
    ------
    Refused
        If the homes do not answer, or no number can be kept for the account.
    Unavailable
        If the place's host does not answer.
    """
    identity = await asyncio.to_thread(_identity, config, principal, place)
    full, note = await _home(config, principal, identity, ask_home)
    needed: tuple[int, ...] | None = ()
    if identity is not None and len(identity.gids) > MAX_SUPPLEMENTARY:
        needed = await asyncio.to_thread(_needed_gids, answer, config, identity, clock)
    is_unmapped = identity is not None and not is_mapped(principal)
    return StartFacts(
        unmapped_uid=identity.uid if identity is not None and is_unmapped else None,
        full_home=full,
        needed_gids=needed,
        notes=(note,) if note else (),
    )


def _identity(config: FacilityConfig, principal: Principal, place: Place) -> Identity | None:
    """Whom the session will be; None for one that is the hub's own user."""
    if place.backend == "local":
        return None
    if principal.uid is not None and principal.gid is not None:
        return Identity(principal.uid, principal.gid, principal.gids)
    sessions = config.sessions
    try:
        uid = UidRegistry(sessions.state_folder, sessions.unmapped_uid_first).uid_of(principal.account)
    except NoNumber as error:
        raise refuse(
            "unavailable", "account", f"No numeric identity could be kept for you ({error.reason})."
        ) from error
    return Identity(uid, uid)


async def _home(
    config: FacilityConfig, principal: Principal, identity: Identity | None, ask: AskHome | None
) -> tuple[str | None, str | None]:
    """Why the home is full, and what to say of how full it is, on the host that the session comes to."""
    sessions = config.sessions
    mapped = identity is None or is_mapped(principal)
    said = await ask(principal.account) if ask is not None else None
    if said is None:
        home = home_folder(sessions, is_mapped=mapped) / principal.account
        said = await look_at_home(config, home, identity)
    homes = said.state(is_mapped=mapped)
    if homes is not None and homes.since is not None:
        raise refuse("unavailable", "homes", f"The storage of the homes {homes.reason}. Try again later.")
    quota_gib = sessions.homes.quota_gib
    if quota_gib is None or said.usage is None:
        return said.full, None
    return said.full, usage_note(said.usage, quota_gib)


def _needed_gids(
    answer: GrantAnswer, config: FacilityConfig, identity: Identity, clock: Clock
) -> tuple[int, ...] | None:
    """Groups of the wanted folders where a pool limits their number; None where nobody can see them."""
    pools: dict[str, PoolConfig] = {pool.name: pool for pool in config.pools}
    data = choose_mounts(answer, pools, at=clock())
    if not any(pools[mount.pool].group_mode == "auth_sys" for mount in data.mounts):
        return ()
    # Raw data first: without it the session is of no use.
    mounts = sorted(data.mounts, key=lambda mount: mount.mode != "ro")
    folders = [[str(pools[mount.pool].root), mount.path] for mount in mounts]
    step = [{"do": "closed_groups", "folders": folders, "uid": identity.uid}]
    is_squashed = any(pools[mount.pool].squash == "root" for mount in mounts) and os.geteuid() == 0
    with contextlib.suppress(FolderUnfit):
        first, then = ([], step) if is_squashed else (step, [])
        as_ = identity if is_squashed else None
        [gids] = do_steps(first, then, as_=as_, limit_s=LOOK_LIMIT_S)
        return tuple(gids) if gids is not None else None
    return None
