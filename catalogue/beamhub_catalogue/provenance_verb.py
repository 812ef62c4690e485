"""What `beamhub dataset provenance` does."""

from __future__ import annotations

import argparse
import json
import sys

from beamhub_catalogue.grants import NOT_FOUND_REASON, refusal
from beamhub_catalogue.provenance import prov_json, walk_lineage
from beamhub_catalogue.shown import opened_service, show
from beamhub_catalogue.verbs import person_named
from beamhub_core.rights import Refused


def run_provenance(arguments: argparse.Namespace) -> int:
    """The lineage of one dataset as a reader may see it."""
    with opened_service(arguments) as service:
        reader = person_named(service, arguments.reader)
        with service.desk.reading(reader) as catalogue:
            row = catalogue.row(arguments.pid)
            if row is None:
                raise Refused(refusal("not_found", arguments.pid, NOT_FOUND_REASON))
            if arguments.prov:
                sys.stdout.write(json.dumps(prov_json(catalogue, row, service.config.short_name)) + "\n")
                return 0
            lineage = walk_lineage(catalogue, row)
            pids = {i: one.pid for i, one in lineage.datasets.items()}
    edges = sorted((pids[product], pids[source]) for product, source in lineage.edges)
    facts = {
        "pid": arguments.pid,
        "datasets": sorted(pids.values()),
        "made_from": [{"product": product, "input": source} for product, source in edges],
        "complete": lineage.is_complete,
    }
    show(arguments, facts, [f"{product}\tmade from\t{source}" for product, source in edges])
    return 0
