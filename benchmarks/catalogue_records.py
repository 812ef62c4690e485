"""A catalogue of synthetic datasets from a fixed seed, written in bulk: what `bench_search` asks about."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from beamhub_catalogue.counts import count_again
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import (
    DatasetRow,
    FileRow,
    ParameterRow,
    ProposalRow,
    SampleRow,
    TechniqueRow,
)
from beamhub_catalogue.panet import labels
from beamhub_catalogue.rules import apply_policy
from beamhub_catalogue.units import in_si
from beamhub_core.policy_document import PolicyDocument

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PER_PROPOSAL, CHUNK, FIRST_DAY = 50, 2_000, date(2015, 1, 1)
CLASSES = ("open",) * 14 + ("standard",) * 5 + ("quiet",)
WORDS = ("silicon", "perovskite", "electrode", "weld", "lysozyme", "zeolite", "magnetite", "cement", "bone",
         "alloy", "membrane", "catalyst", "polymer", "glass", "ferrite", "clay")  # fmt: skip
POLICY = PolicyDocument.model_validate(
    {
        "version": "bench",
        "timezone": "Europe/Paris",
        "classes": {
            "open": {"embargo_months": 0, "metadata": "public", "license": "CC-BY-4.0"},
            "standard": {"embargo_months": 36, "metadata": "public", "license": "CC-BY-4.0"},
            "quiet": {"embargo_months": 36, "metadata": "team"},
        },
    }
)
TERMS = sorted(labels())[20:120]


def fill(database: Database, n_datasets: int) -> None:
    """Proposals and datasets of five parameters, a file, a technique and a sample each."""
    rng = random.Random(11)  # noqa: S311  # chance, not secrecy
    n_proposals = -(-n_datasets // PER_PROPOSAL)
    with database.writing() as session:
        session.execute(insert(ProposalRow), [_proposal(i, rng) for i in range(n_proposals)])
        session.flush()
        apply_policy(session, POLICY, NOW)
    for start in range(0, n_datasets, CHUNK):
        rows = list(_datasets(range(start, min(start + CHUNK, n_datasets)), rng))
        with database.writing() as session:
            for table, made in zip(_TABLES, zip(*rows, strict=True), strict=True):
                session.execute(insert(table), [row for group in made for row in group])


def count(database: Database) -> None:
    """The counts of all proposals, and statistics for the planner."""
    more = 1
    while more:
        with database.writing() as session:
            more = count_again(session)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"))


_TABLES = (DatasetRow, ParameterRow, FileRow, TechniqueRow, SampleRow)


def _proposal(i: int, rng: random.Random) -> dict[str, Any]:
    start = FIRST_DAY + timedelta(days=i % 4000)
    return {
        "id": f"MA-{i:06d}",
        "source": "bench",
        "title": f"Study {i} of {rng.choice(WORDS)}",
        "policy_class": rng.choice(CLASSES),
        "instrument": f"bl{i % 40:02d}",
        "start": start,
        "end": start + timedelta(days=4),
        "extension_months": [],
        "changed_at": NOW,
    }


def _datasets(numbers: range, rng: random.Random) -> Iterator[tuple[list[dict[str, Any]], ...]]:
    for i in numbers:
        proposal, here = i // PER_PROPOSAL, {"dataset_id": i + 1}
        term = rng.choice(TERMS)
        start = datetime.combine(FIRST_DAY + timedelta(days=proposal % 4000), datetime.min.time(), UTC)
        folder = f"MA-{proposal:06d}/scan_{i:07d}"
        size, sample = rng.randint(10**6, 10**10), f"{rng.choice(WORDS)} {rng.randint(1, 99)}"
        parameters = (
            ("photon_energy", rng.uniform(5, 90), "keV"),
            ("sample_temperature", rng.uniform(4, 1200), "K"),
            ("exposure_time", rng.uniform(1, 5000), "ms"),
            ("sample_detector_distance", rng.uniform(0.1, 10), "m"),
            ("pressure", rng.uniform(0.5, 1500), "mbar"),
        )
        dataset = {
            "id": i + 1,
            "pid": f"bench:MA-{proposal:06d}:scan_{i:07d}",
            "kind": "raw",
            "proposal": f"MA-{proposal:06d}",
            "title": f"{rng.choice(WORDS)} {rng.choice(WORDS)} scan {i} run{rng.randint(0, 9999):04d}",
            "technique": term,
            "technique_label": labels()[term][0],
            "instrument": f"bl{proposal % 40:02d}",
            "sample": sample,
            "start": start + timedelta(seconds=i % 86_400),
            "pool": "pool",
            "folder": folder,
            "file": f"{folder}/scan.h5",
            "size_bytes": size,
            "link_closure": [],
            "missing_links": [],
            "has_preview": False,
            "withdrawn": False,
            "harvested_at": NOW,
        }
        yield (
            [dataset],
            [_parameter(here, *told) for told in parameters],
            [here | {"pool": "pool", "path": f"{folder}/scan.h5", "name": "scan.h5", "size_bytes": size}],
            [here | {"position": 0, "pid": term, "label": labels()[term][0]}],
            [here | {"position": 0, "name": sample}],
        )


def _parameter(here: dict[str, int], name: str, number: float, unit: str) -> dict[str, Any]:
    si_number, dimension = in_si(number, unit) or (None, None)
    return here | {
        "name": name,
        "number": number,
        "unit": unit,
        "si_number": si_number,
        "dimension": dimension,
    }
