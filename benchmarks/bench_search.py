"""The PaNOSC search API's queries on a catalogue of synthetic datasets, on SQLite and PostgreSQL.

    python benchmarks/bench_search.py --datasets 100000
    python benchmarks/bench_search.py --datasets 1000000 --postgresql own --no-sqlite

An anonymous reader asks; the answer is that of `search_answers`, without HTTP. Every shape of question is
asked `--repeats` times with other values each time. The answers of both databases are compared before a time
counts. The bars are those of issue 11 for 10^6 datasets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from catalogue_records import NOW, POLICY, TERMS, WORDS, count, fill
from sqlalchemy import text

import postgresql_server  # the tests' folder, not the room
from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.people import Reader
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import parse_filter

BARS_MS = {
    "first page": 20,
    "by pid": 5,
    "text": 80,
    "rare text": 80,
    "parameter range with unit": 100,
    "technique, parameter and text": 150,
    "count of all": 100,
    "count with a technique": 100,
    "count with a text": 100,
    "facets": 300,
    "page behind a cursor": 20,
    "skip": 100,
    "ranked by a query": 150,
}
Ask = Callable[[Answers, random.Random, int], Any]


def wanted(**words: Any) -> Any:
    """A parsed filter, as of a request; a hundred items unless it says otherwise."""
    return parse_filter(json.dumps({"limit": 100} | words))


def energy(rng: random.Random, width_eV: float) -> dict[str, Any]:
    """An include of datasets within a range of photon energies, asked in eV of stored keV."""
    low = rng.uniform(6_000, 80_000)
    conditions = [
        {"name": "photon_energy"},
        {"value": {"between": [low, low + width_eV]}},
        {"unit": "eV"},
    ]
    return {"relation": "parameters", "scope": {"where": {"and": conditions}}}


def technique(rng: random.Random) -> dict[str, Any]:
    """An include of datasets of a term and all below it."""
    return {"relation": "techniques", "scope": {"where": {"pid": rng.choice(TERMS)}}}


def pid(i: int) -> str:
    """The pid of a dataset."""
    return f"bench:MA-{i // 50:06d}:scan_{i:07d}"


SHAPES: dict[str, Ask] = {
    "first page": lambda a, rng, n: a.datasets(wanted()),
    "by pid": lambda a, rng, n: a.dataset(pid(rng.randrange(n)), wanted()),
    "text": lambda a, rng, n: a.datasets(wanted(where={"text": rng.choice(WORDS)})),
    "rare text": lambda a, rng, n: a.datasets(wanted(where={"text": f"run{rng.randrange(10_000):04d}"})),
    "parameter range with unit": lambda a, rng, n: a.datasets(wanted(include=[energy(rng, 5.0)])),
    "technique, parameter and text": lambda a, rng, n: a.datasets(
        wanted(include=[technique(rng), energy(rng, 2_000)], where={"text": rng.choice(WORDS)})
    ),
    "count of all": lambda a, rng, n: a.count_datasets(None),
    "count with a technique": lambda a, rng, n: a.count_datasets(
        None, wanted(include=[technique(rng)]).include
    ),
    "count with a text": lambda a, rng, n: a.count_datasets(
        wanted(where={"text": f"run{rng.randrange(10_000):04d}"}).where
    ),
    "facets": lambda a, rng, n: a.facets(None),
    "page behind a cursor": lambda a, rng, n: a.datasets(wanted(after=pid(n * 9 // 10))),
    "skip": lambda a, rng, n: a.datasets(wanted(skip=n // 10)),
    "ranked by a query": lambda a, rng, n: a.datasets(
        wanted(query=f"run{rng.randrange(10_000):04d} {rng.choice(WORDS)}")
    ),
}


def answers_of(database: Database, ask: Ask, seed: int, n: int) -> Any:
    """One question, as the API asks it: in a transaction of its own."""
    with database.reading() as session:
        catalogue = Catalogue(session, Reader(None), POLICY, NOW, "Facility")
        return ask(Answers(catalogue), random.Random(seed), n)  # noqa: S311  # chance, not secrecy


def measured(databases: dict[str, Database], repeats: int, n: int) -> dict[str, dict[str, Any]]:
    """Times of every shape on every database; equal answers first."""
    rows: dict[str, dict[str, Any]] = {}
    for name, ask in SHAPES.items():
        found = [answers_of(database, ask, 0, n) for database in databases.values()]
        if any(answer != found[0] for answer in found):
            raise SystemExit(f"{name}: the databases answer differently")
        rows[name] = {"bar_ms_at_1e6": BARS_MS[name]}
        for label, database in databases.items():
            times = [_timed(database, ask, seed, n) for seed in range(1, repeats + 1)]
            cuts = statistics.quantiles(times, n=20)
            rows[name][label] = {"p50_ms": round(statistics.median(times), 2), "p95_ms": round(cuts[18], 2)}
        sys.stdout.write(f"{name:32} {json.dumps(rows[name])}\n")
    return rows


def _timed(database: Database, ask: Ask, seed: int, n: int) -> float:
    began = time.perf_counter()
    answers_of(database, ask, seed, n)
    return (time.perf_counter() - began) * 1000


def loaded(database: Database, n: int) -> dict[str, Any]:
    """Fill a database; how long that took."""
    ensure_schema(database)
    began = time.perf_counter()
    fill(database, n)
    filled = time.perf_counter()
    count(database)
    took = filled - began
    return {
        "datasets_per_s": round(n / took),
        "load_s": round(took, 1),
        "count_s": round(time.perf_counter() - filled, 1),
    }


@contextmanager
def own_server() -> Iterator[str]:
    """A PostgreSQL server for this run alone, as durable as its makers have it; the URL of a database."""
    programs = postgresql_server.find_programs()
    if programs is None:
        raise SystemExit(postgresql_server.MISSING)
    postgresql_server.SETTINGS.update({"shared_buffers": "2GB", "max_wal_size": "8GB"})
    server = postgresql_server.PostgresqlServer(programs, durable=True)
    try:
        yield server.url(server.make_database(empty=True))
    finally:
        server.stop()


def opened(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Database]]:
    """The databases that were asked for, empty."""
    if options.sqlite:
        yield "sqlite", Database(f"sqlite:///{folder / 'bench.sqlite'}")
    if options.postgresql:
        database = Database(options.postgresql)
        with database.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        yield "postgresql", database


def main() -> None:
    """Print one line for each shape, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--datasets", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--sqlite", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--postgresql",
        metavar="URL",
        help="a database of its own, all in it is dropped; or 'own': a server too",
    )
    parser.add_argument("--folder", type=Path, help="where the SQLite file goes (a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, ExitStack() as stack:
        if options.postgresql == "own":
            options.postgresql = stack.enter_context(own_server())
        databases = dict(opened(options, Path(folder)))
        loads = {label: loaded(database, options.datasets) for label, database in databases.items()}
        sys.stdout.write(f"loaded: {json.dumps(loads)}\n")
        rows = measured(databases, options.repeats, options.datasets)
        for database in databases.values():
            database.close()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "command": f"python {' '.join(sys.argv)}",
        "datasets": options.datasets,
        "load": loads,
        "peak_resident_mib": peak_mib,
        "shapes": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
