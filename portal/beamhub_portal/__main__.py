"""`python -m beamhub_portal --config facility.yaml`: the web service."""

from __future__ import annotations

import argparse
import gc
import logging
import socket
import sys
from pathlib import Path

import uvicorn

from beamhub_catalogue.service import CatalogueService
from beamhub_core.config import read_config
from beamhub_core.errors import BeamhubError
from beamhub_portal.app import build_app

GRACE_S = 5


class PortInUse(BeamhubError):
    """Another process listens where the web service should."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(host, port, reason)
        self.host, self.port, self.reason = host, port, reason

    def __str__(self) -> str:
        return f"Cannot listen on {self.host}, port {self.port}: {self.reason}. Change web.listen_port."


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, taken before anything else is opened; raises `PortInUse`."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise PortInUse(host, port, error.strerror or type(error).__name__) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise PortInUse(host, port, error.strerror or type(error).__name__) from error
    return listener


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; the answer is the process's exit code."""
    parser = argparse.ArgumentParser(prog="beamhub_portal", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the facility.yaml")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # would name every address it asks
    try:
        config = read_config(arguments.config)
        listener = _listen(config.web.listen_host, config.web.listen_port)
        app = build_app(config, CatalogueService(config))
    except BeamhubError as error:
        sys.stderr.write(f"beamhub_portal: {error}\n")
        return error.exit_code
    # What is there now stays: the collector need not look through it again in the middle of a request.
    gc.collect()
    gc.freeze()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,  # its lines would hold the codes in callback addresses
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    with listener:
        server.run(sockets=[listener])
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
