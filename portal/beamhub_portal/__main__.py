"""`python -m beamhub_portal --config facility.yaml`: the web service."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import uvicorn

from beamhub_catalogue.service import CatalogueService
from beamhub_core.config import read_config
from beamhub_core.errors import BeamhubError
from beamhub_portal.app import build_app

GRACE_S = 5


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; the answer is the process's exit code."""
    parser = argparse.ArgumentParser(prog="beamhub_portal", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the facility.yaml")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # would name every address it asks
    try:
        config = read_config(arguments.config)
        app = build_app(config, CatalogueService(config))
    except BeamhubError as error:
        sys.stderr.write(f"beamhub_portal: {error}\n")
        return error.exit_code
    uvicorn.run(
        app,
        host=config.web.listen_host,
        port=config.web.listen_port,
        access_log=False,  # its lines would hold the codes in callback addresses
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
