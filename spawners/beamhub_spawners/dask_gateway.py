"""The gateway as a process: `python -m beamhub_spawners.dask_gateway --config facility.yaml`."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

from dask_gateway_server.app import DaskGateway
from traitlets.config import Config

from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.errors import ConfigInvalid
from beamhub_spawners.dask_backend import GatewayPlatform, PlanBackend
from beamhub_spawners.dask_render import HEARTBEAT_S
from beamhub_spawners.dask_runner import runner_for
from beamhub_spawners.dask_sessions import SessionAuthenticator, SessionDirectory
from beamhub_spawners.platform import clock_of
from beamhub_spawners.process_file import FOLDER_MODE
from beamhub_spawners.web_client import WebClient

START_TIMEOUT_S = 60
CHECK_S = 5
KEPT_S = 8 * 24 * 3600
"""Rows of ended clusters are kept for longer than sessions live: what a session used is summed over them."""
EXIT_CONFIG = 7
HEX_DIGITS = 64


class PlanGateway(DaskGateway):  # type: ignore[misc]  # dask-gateway has no types
    """dask-gateway's server, which takes no configuration file from whatever folder it was started in."""

    def load_config_file(self, *_: Any, **__: Any) -> None:
        """Read nothing: the facility's configuration says all."""


def gateway_traits(config: GatewayConfig, keys: list[str]) -> Config:
    """The engine's configuration: where it listens, what it keeps and how long it waits."""
    c = Config()
    c.DaskGateway.address = f"127.0.0.1:{config.internal_port}"
    c.DaskGateway.backend_class = PlanBackend
    c.DaskGateway.authenticator_class = SessionAuthenticator
    c.DaskGateway.log_level = "INFO"
    c.Proxy.address = f"{config.listen_host}:{config.listen_port}"
    if config.tls_cert_file is not None:
        c.Proxy.tls_cert, c.Proxy.tls_key = str(config.tls_cert_file), str(config.tls_key_file)
    c.PlanBackend.api_url = f"{config.session_url.rstrip('/')}/api"
    c.PlanBackend.db_url = config.database_url
    c.PlanBackend.db_encrypt_keys = keys
    c.PlanBackend.stop_clusters_on_shutdown = False
    c.PlanBackend.cluster_heartbeat_period = HEARTBEAT_S
    c.PlanBackend.cluster_heartbeat_timeout = 3 * HEARTBEAT_S
    c.PlanBackend.cluster_start_timeout = c.PlanBackend.worker_start_timeout = START_TIMEOUT_S
    c.PlanBackend.cluster_status_period = c.PlanBackend.worker_status_period = CHECK_S
    c.PlanBackend.backoff_max_delay = 15
    c.PlanBackend.db_cluster_max_age = KEPT_S
    return c


def build_gateway(config: FacilityConfig) -> PlanGateway:
    """A gateway that is ready to start.

    Raises
    ------
    ConfigInvalid
        If the facility has no gateway, or a secret cannot be read or is none.
    """
    gateway = config.gateway
    if gateway is None:
        raise ConfigInvalid("facility.yaml", ("gateway: is missing; there is no gateway to start",))
    try:
        keys = [_in_base64(word) for word in gateway.keys_file.read_text(encoding="ascii").split()]
        token = gateway.web_token_file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigInvalid("facility.yaml", (f"gateway: a secret cannot be read ({error})",)) from None
    if not keys or not token:
        raise ConfigInvalid("facility.yaml", ("gateway: keys_file or web_token_file is empty",))
    gateway.state_folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    client = WebClient(config.web.internal_url, token)
    directory = SessionDirectory(client, clock_of(config), gateway.token_cache_s)
    PlanBackend.platform = GatewayPlatform(config, gateway, directory, runner_for(config))
    SessionAuthenticator.directory = directory
    app = PlanGateway(config=gateway_traits(gateway, keys))
    app.initialize([])
    return app


def _in_base64(key: str) -> str:
    """A key as the engine takes it; our other secrets are hexadecimal."""
    is_hex = len(key) == HEX_DIGITS
    return base64.urlsafe_b64encode(bytes.fromhex(key)).decode() if is_hex else key


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; clusters go on."""
    parser = argparse.ArgumentParser(prog="python -m beamhub_spawners.dask_gateway", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the facility's configuration")
    asked = parser.parse_args(arguments)
    try:
        app = build_gateway(read_config(asked.config))
    except ConfigInvalid as error:
        sys.stderr.write(f"beamhub: {error}\n")
        return EXIT_CONFIG
    app.start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
