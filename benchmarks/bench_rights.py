"""Grants, re-check and plan store on a large catalogue: ours, one dataset at a time, and the database alone.

Peer: the same questions asked for one dataset (session) after the other, as a loop over a catalogue's API
does it. Limit: the rows alone, fetched by their primary keys in one query (for the plan: one small row with
the same durable commit). All alternate in one run. Each database holds --datasets rows in proposals of 100,
with ten memberships a proposal.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rights_facility import (
    ISSUER,
    MEMBERS_EACH,
    N_DATASETS_EACH,
    N_PROPOSALS_ASKED,
    NOW,
    PER_PROPOSAL,
    POLICY,
    fill,
    person,
    pid,
    plan_of,
)
from sqlalchemy import select, text

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.grants import answer_grants
from beamhub_catalogue.models import DatasetRow, SessionRow
from beamhub_catalogue.people import reader_of
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.recheck import Present, recheck_sessions
from beamhub_catalogue.sessions import store_plan
from beamhub_core.config.login import LoginConfig
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest

ROOT = Path(__file__).resolve().parents[1]
LOGIN = LoginConfig.model_validate(
    {
        "grace_h": 24,
        "providers": [
            {
                "name": "p",
                "title": "P",
                "issuer": ISSUER,
                "client_id": "c",
                "client_secret_file": "/run/none",
                "entitlement_namespaces": ["urn:geant:provider.example"],
            }
        ],
    }
)


def ask_grants(database: Database, pids: tuple[str, ...]) -> int:
    """The whole question: memberships joined, rules evaluated, the answer as JSON."""
    with database.reading() as session:
        reader = reader_of(session, person(0), LOGIN, NOW)
        answer = answer_grants(Catalogue(session, reader, POLICY, NOW, "bench"), person(0).account, pids)
    assert answer.body.startswith(b"{")
    return len(answer.body)


def ask_grants_one_by_one(database: Database, pids: tuple[str, ...]) -> int:
    """The peer."""
    return sum(ask_grants(database, (one,)) for one in pids)


def fetch_rows(database: Database, pids: tuple[str, ...]) -> int:
    """The limit: the datasets' rows and nothing else."""
    with database.reading() as session:
        query = select(DatasetRow.pid, DatasetRow.folder, DatasetRow.link_closure)
        return len(session.execute(query.where(DatasetRow.pid.in_(pids))).all())


def recheck(database: Database) -> int:
    """All live sessions."""
    with database.reading() as session:
        verdicts = recheck_sessions(session, LOGIN, Present(POLICY, NOW, NOW))
    assert {verdict.action for verdict in verdicts} <= {"none", "notify", "warn"}, verdicts[0]
    return len(verdicts)


def fetch_plans(database: Database) -> int:
    """The peer of the re-check, generously: every live plan read and parsed, and no question asked yet."""
    with database.reading() as session:
        plans = session.scalars(select(SessionRow.plan)).all()
    return len([SessionPlan.model_validate(plan) for plan in plans])


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median_ms": round(statistics.median(ordered) * 1e3, 2), "p95_ms": round(p95 * 1e3, 2)}


def measure(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """All questions to one database."""
    rng = random.Random(5)  # noqa: S311  # chance, not secrecy
    found: dict[str, list[float]] = {name: [] for name in ("grants", "rows alone", "recheck", "plans alone")}
    for i in range(options.repeats):
        pids = tuple(
            pid(p, i)
            for p in range(N_PROPOSALS_ASKED)
            for i in rng.sample(range(PER_PROPOSAL), k=N_DATASETS_EACH)
        )
        found["grants"].append(timed(lambda: ask_grants(database, pids)))  # noqa: B023  # called at once
        found["rows alone"].append(timed(lambda: fetch_rows(database, pids)))  # noqa: B023
        if i < 5:
            found["recheck"].append(timed(lambda: recheck(database)))
            found["plans alone"].append(timed(lambda: fetch_plans(database)))
    result: dict[str, Any] = {name: milliseconds(seconds) for name, seconds in found.items()}
    result["one by one"] = milliseconds([timed(lambda: ask_grants_one_by_one(database, pids))])
    return result | commits(database, options)


def commits(database: Database, options: argparse.Namespace) -> dict[str, Any]:
    """Plans stored one by one with a durable commit, and the smallest durable commit that there is."""
    with database.writing() as session:
        session.execute(text("CREATE TABLE IF NOT EXISTS bench_commits (n INTEGER)"))
    plans, alone = [], []
    for i in range(options.repeats * 4):
        plan = plan_of(0, 0, number=10**9 + i)
        made = digest(plan)

        def store(plan: SessionPlan = plan, made: str = made) -> None:
            with database.writing() as session:
                store_plan(session, plan, made, NOW)

        def commit(i: int = i) -> None:
            with database.writing() as session:
                session.execute(text("INSERT INTO bench_commits VALUES (:n)"), {"n": i})

        plans.append(timed(store))
        alone.append(timed(commit))
    return {"plan stored": milliseconds(plans), "commit alone": milliseconds(alone)}


def databases(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str]]:
    """The databases to measure, by name and URL; a PostgreSQL of its own where its programs are."""
    yield "SQLite", f"sqlite:///{folder / 'bench.sqlite'}"
    if options.sqlite_only:
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from postgresql_server import PostgresqlServer, find_programs  # only here: the tests' own server

    programs = find_programs()
    if programs is None:
        print("PostgreSQL: left out, its programs (initdb, postgres) are not here")
        return
    server = PostgresqlServer(programs, durable=True)
    try:
        yield "PostgreSQL", server.url(server.make_database(empty=True))
    finally:
        server.stop()


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=1_000_000)
    parser.add_argument("--sessions", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--sqlite-only", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/bench_rights.py", *sys.argv[1:]]),
        "datasets": options.datasets,
        "memberships": options.datasets // PER_PROPOSAL * MEMBERS_EACH,
        "sessions": options.sessions,
    }
    gc.freeze()  # as the web service does once it is up
    with tempfile.TemporaryDirectory(prefix="beamhub-bench-") as folder:
        for name, url in databases(options, Path(folder)):
            database = Database(url)
            ensure_schema(database)
            filled = timed(lambda: fill(database, options.datasets, options.sessions))  # noqa: B023
            figures[name] = {"filled_s": round(filled, 1)} | measure(database, options)
            database.close()
            show(name, figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def show(name: str, figures: dict[str, Any]) -> None:
    """A table of one database."""
    of = figures[name]
    rows = (
        ("1,000 grants of 200 proposals", "grants", "one by one", "rows alone", "p95_ms", 20),
        (f"re-check of {figures['sessions']} sessions", "recheck", "plans alone", None, "median_ms", 2000),
        ("plan stored durably", "plan stored", None, "commit alone", "median_ms", 5),
    )
    print(f"{name}: {figures['datasets']} datasets, {figures['memberships']} memberships")
    for title, ours, peer, limit, which, asked in rows:
        line = f"  {title:34} ours {which[:-3]} {of[ours][which]:9.2f} ms (asked {asked} ms)"
        line += f", peer {of[peer]['median_ms']:9.2f} ms" if peer else ""
        line += f", limit {of[limit]['median_ms']:7.2f} ms" if limit else ""
        print(line)


if __name__ == "__main__":
    main()
