"""What `beamhub catalogue validate` does."""

from __future__ import annotations

import argparse
import dataclasses

from beamhub_catalogue.nxdl import Definitions
from beamhub_catalogue.shown import show
from beamhub_catalogue.validation import validate_file


def run_validate(arguments: argparse.Namespace) -> int:
    """Show every miss; 1 when the file breaks a definition, or names none."""
    found = validate_file(str(arguments.file), Definitions(arguments.definitions), arguments.definition)
    misses = [dataclasses.asdict(miss) for miss in found.misses]
    n_errors = sum(miss.severity == "error" for miss in found.misses)
    named = ", ".join(f"{path} as {name}" for path, name in found.definitions.items()) or "nothing"
    head = f"{named} compared: {n_errors} error(s), {len(misses) - n_errors} warning(s)"
    lines = [f"{miss.severity}\t{miss.path}\t{miss.reason}" for miss in found.misses]
    show(
        arguments,
        {"valid": found.is_valid, "definitions": found.definitions, "misses": misses},
        [head, *lines],
    )
    return 0 if found.is_valid else 1
