"""The folders of plans on an agent's host: made before a container, looked at again for it."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from beamhub_core.config import FacilityConfig
from beamhub_core.session import SessionPlan
from beamhub_spawners.agent_routes import NotAdmitted
from beamhub_spawners.folder_work import Identity
from beamhub_spawners.host_folders import (
    FOLDERS_S,
    N_FOLDER_THREADS,
    OF_A_FOLDER,
    check_and_ensure_folders,
    unfit_in_words,
)
from beamhub_spawners.host_homes import HomeOnHost, home_states, look_at_home
from beamhub_spawners.paths import PathEscapes

log = logging.getLogger(__name__)

MAX_PEOPLE = 10_000
FRESH_S = 120.0
"""For so long the quotas of a plan need not be set again."""


@dataclass(frozen=True, slots=True)
class _Home:
    """The home of an account of whom a stored plan was seen here."""

    folder: Path
    identity: Identity | None


@dataclass(slots=True)
class Folders:
    """Makes the folders of plans in threads of its own, so that slow storage holds up only its own starts.

    It remembers the homes of the plans that it made folders for: of other accounts it tells nothing.
    """

    config: FacilityConfig
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(N_FOLDER_THREADS, thread_name_prefix="agent-folders")
    )
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _quotas_set: dict[str, float] = field(default_factory=dict)
    _homes: dict[str, _Home] = field(default_factory=dict)

    def lock_of(self, plan_id: str) -> asyncio.Lock:
        """Held while something is made of a plan; keeps two requests for one plan apart."""
        return self._locks.setdefault(plan_id, asyncio.Lock())

    async def make(self, plan: SessionPlan) -> None:
        """Make what the session writes to and look at what it reads; again, that costs no quota.

        Raises
        ------
        NotAdmitted
            With words for the person, when a folder cannot be used or its storage does not answer.
        """
        now = time.monotonic()
        self._quotas_set = {one: at for one, at in self._quotas_set.items() if now - at < FRESH_S}
        with_quotas = plan.id not in self._quotas_set
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(
            self._threads, lambda: check_and_ensure_folders(plan, self.config, with_quotas=with_quotas)
        )
        try:
            await asyncio.wait_for(work, FOLDERS_S)
        except TimeoutError as error:
            words = "its home, scratch or data: the storage does not answer"
            raise NotAdmitted(403, f"{OF_A_FOLDER}{words}") from error
        except PathEscapes as error:
            log.warning("the folders of session %s cannot be made: %s", plan.id, error)
            raise NotAdmitted(403, f"{OF_A_FOLDER}{unfit_in_words(error, plan)}") from error
        self._quotas_set.setdefault(plan.id, now)
        self._remember(plan)

    async def home_of(self, account: str) -> HomeOnHost:
        """How the homes of this host are; and of the account's own, where a plan of it was seen here."""
        known = self._homes.get(account)
        if known is None:
            return HomeOnHost(homes=await home_states(self.config.sessions))
        return await look_at_home(self.config, known.folder, known.identity)

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _remember(self, plan: SessionPlan) -> None:
        identity = Identity(plan.uid, plan.gid, plan.gids) if plan.uid and plan.gid else None
        self._homes.pop(plan.account, None)  # the newest last: the oldest goes
        for mount in plan.mounts:
            if mount.purpose == "home":
                self._homes[plan.account] = _Home(Path(mount.source), identity)
        while len(self._homes) > MAX_PEOPLE:
            del self._homes[next(iter(self._homes))]
