"""`python -m beamhub_hub --config facility.yaml`: run the hub until it is told to stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from beamhub_core.config import read_config
from beamhub_core.errors import BeamhubError
from beamhub_hub.hub_database import check_hub_database
from beamhub_hub.version_floor import check_versions
from beamhub_spawners.session_server import bar_slow_imports


def main(argv: list[str] | None = None) -> int:
    """Check the configuration, then become the hub; further arguments go to JupyterHub."""
    parser = argparse.ArgumentParser(prog="python -m beamhub_hub")
    parser.add_argument("--config", type=Path, required=True, help="the facility's configuration")
    arguments, rest = parser.parse_known_args(argv)
    try:
        check_versions()
        bar_slow_imports()
        # Imported after all is known to be right: JupyterHub takes a second to import, and an old one fails.
        from beamhub_hub.app import BeamhubHub

        config = read_config(arguments.config)
        BeamhubHub.prepare(config, arguments.config)
        hub = BeamhubHub.wired.JupyterHub
        check_hub_database(hub.db_url, hub.db_kwargs.get("connect_args", {}))
    except BeamhubError as error:
        sys.stderr.write(f"beamhub hub: {error}\n")
        return error.exit_code
    BeamhubHub.launch_instance(rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
