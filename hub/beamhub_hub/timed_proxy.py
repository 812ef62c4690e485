"""JupyterHub's proxy, which also says when a session's route is set: the phase after the server answers."""

from __future__ import annotations

import time
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy


class TimedProxy(ConfigurableHTTPProxy):  # type: ignore[misc]  # JupyterHub is untyped
    """Takes the settings of `ConfigurableHTTPProxy`."""

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Set the route, then tell the server's spawner how long that took."""
        began = time.perf_counter()
        await super().add_user(user, server_name)
        spawner = user.spawners[server_name]
        if hasattr(spawner, "route_is_set"):
            spawner.route_is_set(time.perf_counter() - began)
