"""`beamhub agent`: serve one Docker host, and make certificates for it."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `agent`, with `agent make-certificates` below it."""
    parser = subparsers.add_parser(
        "agent",
        help="the authorising proxy before one host's Docker socket",
        description="Serve one Docker host: admit what a stored plan says, and refuse everything else. "
        "See docs/operate/docker-hosts.md.",
        epilog="Examples: beamhub agent --config /etc/beamhub/agent.yaml; "
        "beamhub agent make-certificates certificates --host node1.example.org",
    )
    parser.add_argument(
        "--config", type=Path, default=Path("agent.yaml"), help="its configuration (./agent.yaml)"
    )
    parser.set_defaults(run="beamhub_spawners.agent:run")
    verbs = parser.add_subparsers(metavar="VERB")
    make = verbs.add_parser(
        "make-certificates",
        help="write an authority, the agents' pairs and the hub's pair, for facilities without a PKI",
        epilog="Example: beamhub agent make-certificates certificates --host node1.example.org",
    )
    make.add_argument(
        "folder", type=Path, help="where the files go; an authority that is there is used again"
    )
    make.add_argument("--host", action="append", required=True, help="name or address of an agent; repeat it")
    make.set_defaults(run="beamhub_spawners.agent_certificates:run_make_certificates")
