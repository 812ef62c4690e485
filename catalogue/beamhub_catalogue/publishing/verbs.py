"""What `beamhub catalogue doi` and `beamhub catalogue fair` do; `publishing.words` has their words."""

from __future__ import annotations

import argparse
import sys

from beamhub_catalogue.audit import record_command
from beamhub_catalogue.publishing.fair import MAXIMUM, assess
from beamhub_catalogue.publishing.minting import Kind, Minted
from beamhub_catalogue.shown import opened_service, show
from beamhub_core.errors import BeamhubError


def run_mint(arguments: argparse.Namespace) -> int:
    """Give one record its DOI."""
    try:
        with opened_service(arguments) as service:
            minter = service.publication.minter()
            record_command(service.database, "catalogue doi mint", service.clock())
            kind: Kind = "document" if arguments.document else "dataset"
            minted = minter.mint(kind, arguments.pid, draft=arguments.draft)
            service.publication.publish()
    except BeamhubError as error:
        sys.stderr.write(f"beamhub: {error}\n")
        return error.exit_code
    show(arguments, _facts(minted), [f"{minted.doi}\t{minted.state}\t{minted.pid}"])
    return 0


def run_renew(arguments: argparse.Namespace) -> int:
    """Tell DataCite what changed."""
    done: list[Minted] = []
    try:
        with opened_service(arguments) as service:
            minter = service.publication.minter()
            record_command(service.database, "catalogue doi renew", service.clock())
            service.publication.publish()
            done.extend(minter.renew())
    except BeamhubError as error:
        sys.stderr.write(f"beamhub: {error}\n")
        return error.exit_code
    lines = [f"{one.doi}\t{one.state}\t{one.pid}" for one in done]
    show(arguments, {"renewed": [_facts(one) for one in done]}, [*lines, f"{len(done)} renewed"])
    return 0


def run_fair(arguments: argparse.Namespace) -> int:
    """How FAIR a dataset's public record is."""
    with opened_service(arguments) as service:
        record = service.publication.dataset(None, arguments.pid)
        home = f"{service.publication.places.base_url}/"
    if record is None or not record.ours:
        sys.stderr.write(f"beamhub: the public knows of no dataset {arguments.pid!r} of ours\n")
        return 3
    metrics = assess(record, home)
    points = sum(one.points for one in metrics)
    lines = [f"{one.name}\t{one.points}/{one.out_of}\t{one.words}" for one in metrics]
    facts = {
        "pid": arguments.pid,
        "points": points,
        "out_of": MAXIMUM,
        "metrics": [
            {"metric": one.name, "points": one.points, "out_of": one.out_of, "words": one.words}
            for one in metrics
        ],
    }
    show(arguments, facts, [*lines, f"{points} of {MAXIMUM} points"])
    return 0


def _facts(minted: Minted) -> dict[str, str]:
    return {"kind": minted.kind, "pid": minted.pid, "doi": minted.doi, "state": minted.state}
