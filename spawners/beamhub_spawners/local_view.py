"""What the sweeper sees of local sessions: the process files."""

from __future__ import annotations

import time

from beamhub_core.config import FacilityConfig
from beamhub_spawners.local_spawner import end_process
from beamhub_spawners.process_file import SessionStore, is_alive, read_process
from beamhub_spawners.sweeper import Found, Inventory


class LocalView:
    """Sessions of this machine."""

    def __init__(self, config: FacilityConfig) -> None:
        self._store = SessionStore(config.sessions.state_folder)

    async def look(self) -> Inventory:
        """Every process file, whether its process lives or not."""
        found = []
        for process in self._store.processes():
            file = self._store.session(process.plan_id).process_file
            found.append(
                Found(
                    plan_id=process.plan_id,
                    backend_id=f"pid:{process.pid}",
                    is_running=is_alive(process),
                    age_s=time.time() - file.stat().st_mtime,
                    url=process.url,
                    token_digest=process.token_digest,
                )
            )
        return Inventory(tuple(found))

    async def end(self, found: Found) -> None:
        """End the process if it lives, and remove the session's files, all but the log."""
        process = read_process(self._store.session(found.plan_id).process_file)
        if process is not None:
            await end_process(process, self._store, now=False)
        self._store.remove(found.plan_id)

    async def tidy(self) -> None:
        """A local session leaves nothing but its files, which go with it."""
