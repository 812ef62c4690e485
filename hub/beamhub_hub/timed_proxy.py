"""JupyterHub's proxy, which also says when a session's route is set: the phase after the server answers."""

from __future__ import annotations

import time
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy


class RouteTimes:
    """Put before a proxy class: tells a server's spawner how long its route took."""

    async def add_user(self, user: Any, server_name: str = "") -> None:
        """Set the route, then tell."""
        began = time.perf_counter()
        await super().add_user(user, server_name)  # type: ignore[misc]  # the proxy behind this class
        spawner = user.spawners[server_name]
        if hasattr(spawner, "route_is_set"):
            spawner.route_is_set(time.perf_counter() - began)


class TimedProxy(RouteTimes, ConfigurableHTTPProxy):  # type: ignore[misc]  # JupyterHub is untyped
    """Takes the settings of `ConfigurableHTTPProxy`."""
