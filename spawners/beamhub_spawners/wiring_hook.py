"""Set the spawner of a hub: the one thing of this room that the hub's wiring calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_spawners.platform import Platform, build_web_client, clock_of
from beamhub_spawners.session_spawner import PlanSpawnerMixin, apply_user_options
from beamhub_spawners.web_client import WebClient

# The hub's own limit lies above ours (`sessions.start_timeout_s`), which says what was waited for.
START_TIMEOUT_S = 600
HTTP_TIMEOUT_S = 30


def configure_spawner(
    c: Any, config: FacilityConfig, web_client: Callable[[], WebClient] | None = None
) -> type[PlanSpawnerMixin]:
    """Choose the spawner class of the configured backend and set its traits.

    Parameters
    ----------
    c:
        The hub's traitlets configuration.
    web_client:
        Makes the spawners' client of web's internal API; made from the configuration when absent. The
        client lives as long as the hub process.

    Returns
    -------
    The spawner class, which knows its `platform`. It is set on the class, not by a trait: traitlets copies
    configured values, and neither a client nor a clock can be copied.

    Raises
    ------
    OSError
        If the file of the hub's token for web cannot be read.
    """
    client = web_client() if web_client is not None else build_web_client(config)
    spawner_class = spawner_class_for(config)
    spawner_class.platform = Platform(config=config, clock=clock_of(config), web=client)
    c.JupyterHub.spawner_class = spawner_class
    c.JupyterHub.init_spawners_timeout = 1  # one frozen server must not delay all others
    c.Spawner.start_timeout = START_TIMEOUT_S
    c.Spawner.http_timeout = HTTP_TIMEOUT_S
    c.Spawner.consecutive_failure_limit = 0  # a broken place must not end the hub
    c.Spawner.apply_user_options = apply_user_options
    return spawner_class


def spawner_class_for(config: FacilityConfig) -> type[PlanSpawnerMixin]:
    """The spawner of the one backend that a hub has; imports only that one."""
    backend = config.sessions.places[0].backend
    if backend == "local":
        from beamhub_spawners.local_spawner import LocalSessionSpawner

        return LocalSessionSpawner
    if backend == "docker":
        from beamhub_spawners.docker_spawner import DockerSessionSpawner  # needs the docker packages

        return DockerSessionSpawner
    from beamhub_spawners.kubernetes_spawner import KubernetesSessionSpawner  # needs kubespawner

    return KubernetesSessionSpawner
