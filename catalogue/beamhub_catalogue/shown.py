"""How the catalogue's verbs open the service and show what they found."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from beamhub_catalogue.service import CatalogueService
from beamhub_core.config import read_config


@contextmanager
def opened_service(arguments: argparse.Namespace) -> Iterator[CatalogueService]:
    """The catalogue of the configuration that a verb names."""
    service = CatalogueService(read_config(arguments.config))
    try:
        yield service
    finally:
        service.stop()


def show(arguments: argparse.Namespace, facts: Mapping[str, Any], lines: Iterable[str]) -> None:
    """One JSON object with `--json`, else lines for people."""
    if arguments.json:
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
    else:
        # A title is a stranger's text: no control character of it reaches the terminal.
        sys.stdout.writelines(
            "".join(c if c.isprintable() or c == "\t" else "?" for c in line) + "\n" for line in lines
        )


def described(facts: Mapping[str, Any]) -> list[str]:
    """Facts as lines `name: value`, without those that say nothing."""
    return [f"{name}: {value}" for name, value in facts.items() if value is not None and value != []]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under a head, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    )
    return [line.rstrip() for line in padded]
