"""How the homes of a host are, and the home of one account: looked at where they are mounted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import Field

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.pool_health import Folder, PoolState, folder_states
from beamhub_core.word import Word
from beamhub_spawners.folder_work import FolderUnfit, Identity, do_steps
from beamhub_spawners.home_usage import METER, Usage

LOOK_LIMIT_S = 4.0
MAPPED, UNMAPPED = "homes", "unmapped homes"


class HomeOnHost(Word):
    """What a host says of its homes, and of an account's own where it may tell."""

    homes: dict[str, PoolState] = Field(description="The folders that homes lie in, by kind.")
    full: str | None = Field(default=None, description="Why nothing can be written into the home.")
    usage: Usage | None = Field(default=None, description="What the home was last seen to hold.")

    def state(self, *, is_mapped: bool) -> PoolState | None:
        """How the folder is in which the homes of an account's kind lie."""
        kind = MAPPED if is_mapped or UNMAPPED not in self.homes else UNMAPPED
        return self.homes.get(kind)


AskHome = Callable[[str], Awaitable[HomeOnHost | None]]
"""Asks the host of a start for an account's home; None where this host is to be looked at.

Raises `Unavailable` when it does not answer."""


async def home_states(sessions: SessionsConfig) -> dict[str, PoolState]:
    """How the folders are in which homes lie, on this host."""
    unmapped = sessions.homes.unmapped_folder
    folders = [Folder(MAPPED, str(sessions.homes_folder))]
    if unmapped is not None:
        folders.append(Folder(UNMAPPED, str(unmapped)))
    return await asyncio.to_thread(folder_states, folders)


async def look_at_home(config: FacilityConfig, home: Path, identity: Identity | None) -> HomeOnHost:
    """The homes of this host, and one of them tried as the person it belongs to.

    Parameters
    ----------
    home:
        A folder in one of the folders of homes; its name is the account.
    """
    sessions = config.sessions
    states = await home_states(sessions)
    kind = UNMAPPED if home.parent == sessions.homes.unmapped_folder else MAPPED
    if states[kind].since is not None:  # it hangs; whatever else it was a moment ago may be mended
        return HomeOnHost(homes=states)
    enter, trial = [{"do": "stand", "home": str(home)}], [{"do": "full", "home": str(home)}]
    full = None  # also for a home that is not there yet
    with contextlib.suppress(FolderUnfit):
        [_, full] = await asyncio.to_thread(do_steps, enter, trial, as_=identity, limit_s=LOOK_LIMIT_S)
    usage = None
    if sessions.homes.quota_gib is not None and not sessions.homes.quota_command:
        usage = await METER.usage(home.parent, home.name)
    return HomeOnHost(homes=states, full=full, usage=usage)
