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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.grants import answer_grants
from beamhub_catalogue.models import DatasetRow, MemberRow, PrincipalRow, ProposalRow, SessionRow
from beamhub_catalogue.people import reader_of
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.recheck import Present, recheck_sessions
from beamhub_catalogue.rules import apply_policy
from beamhub_catalogue.sessions import store_plan
from beamhub_core.config.login import LoginConfig
from beamhub_core.identity import Principal, account_name
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ISSUER = "https://provider.example"
PER_PROPOSAL, MEMBERS_EACH, CHUNK = 100, 10, 20_000
N_PROPOSALS_ASKED, N_DATASETS_EACH = 200, 5
POLICY = PolicyDocument.model_validate(
    {
        "version": "bench",
        "timezone": "Europe/Paris",
        "classes": {
            "open": {"embargo_months": 0, "metadata": "public"},
            "standard": {"embargo_months": 36, "metadata": "public", "extension_months": [12]},
            "quiet": {"embargo_months": 36, "metadata": "team"},
        },
    }
)
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


def proposal_id(i: int) -> str:
    """The name of a proposal."""
    return f"MA-{i:06d}"


def pid(i_proposal: int, i: int) -> str:
    """The pid of a dataset."""
    return f"bench:{proposal_id(i_proposal)}:scan_{i:05d}"


def person(i: int) -> Principal:
    """Somebody who logged in."""
    subject = f"user{i}"
    return Principal(
        issuer=ISSUER,
        subject=subject,
        account=account_name(ISSUER, subject),
        display_name=subject,
        orcid=f"0000-0000-{i // 10_000:04d}-{i % 10_000:04d}",
        checked_at=NOW,
    )


def fill(database: Database, n_datasets: int, n_sessions: int) -> None:
    """Everything that the questions need, from a fixed seed."""
    n_proposals, rng = n_datasets // PER_PROPOSAL, random.Random(4)  # noqa: S311  # chance, not secrecy
    n_people = max(n_sessions + 1, n_proposals * MEMBERS_EACH // 5)
    _insert(database, PrincipalRow, (_principal(person(i)) for i in range(n_sessions + 1)))
    _insert(database, ProposalRow, (_proposal(i, rng) for i in range(n_proposals)))
    _insert(database, MemberRow, _members(n_proposals, n_people, n_sessions, rng))
    _insert(database, DatasetRow, (_dataset(p, i) for p in range(n_proposals) for i in range(PER_PROPOSAL)))
    with database.writing() as session:
        apply_policy(session, POLICY)
    for start in range(0, n_sessions, 500):
        with database.writing() as session:
            for i in range(start, min(start + 500, n_sessions)):
                plan = plan_of(i + 1, i % n_proposals)
                store_plan(session, plan, digest(plan), NOW)
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def _insert(database: Database, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == CHUNK:
            _flush(database, table, batch)
            batch = []
    if batch:
        _flush(database, table, batch)


def _flush(database: Database, table: Any, batch: list[dict[str, Any]]) -> None:
    with database.writing() as session:
        session.execute(insert(table), batch)


def _principal(who: Principal) -> dict[str, Any]:
    return {
        "account": who.account,
        "body": who.model_dump(mode="json"),
        "checked_at": NOW,
        "removed_at": None,
    }


def _proposal(i: int, rng: random.Random) -> dict[str, Any]:
    end = date(2020, 1, 1) + timedelta(days=rng.randint(0, 2300))
    return {
        "id": proposal_id(i),
        "source": "user_office:bench",
        "title": f"Title of {i}",
        "policy_class": rng.choice(["open", "standard", "standard", "quiet"]),
        "access_route": "",
        "instrument": f"bl{i % 40:02d}",
        "start": end - timedelta(days=4),
        "end": end,
        "withdrawn": False,
        "extension_months": [],
        "metadata_public": False,
    }


def _members(
    n_proposals: int, n_people: int, n_sessions: int, rng: random.Random
) -> Iterator[dict[str, Any]]:
    """Ten rows a proposal; person 0 is in the first 200, and person i + 1 owns the session i."""
    for i in range(n_proposals):
        team = [rng.randrange(n_people) for _ in range(MEMBERS_EACH)]
        if i < N_PROPOSALS_ASKED:
            team[0] = 0
        if i < n_sessions:
            team[1] = i + 1
        for j, who in enumerate(team):
            by_orcid = j % 2 == 1
            yield {
                "source": "user_office:bench",
                "proposal": proposal_id(i),
                "issuer": None if by_orcid else ISSUER,
                "subject": None if by_orcid else f"user{who}",
                "orcid": person(who).orcid if by_orcid else None,
                "facility_account": None,
                "name": f"User {who}",
                "role": "pi" if j == 0 else "member",
                "since": None,
                "until": None,
                "removed_at": None,
            }


def _dataset(i_proposal: int, i: int) -> dict[str, Any]:
    proposal, name = proposal_id(i_proposal), f"scan_{i:05d}"
    return {
        "pid": pid(i_proposal, i),
        "kind": "raw",
        "proposal": proposal,
        "title": f"Scan {i} of {proposal}",
        "technique": "http://purl.org/pan-science/PaNET/PaNET01100",
        "technique_label": "powder diffraction",
        "instrument": f"bl{i_proposal % 40:02d}",
        "start": NOW - timedelta(minutes=i),
        "end": NOW,
        "pool": "hall",
        "folder": f"{proposal}/raw/{name}",
        "file": f"{proposal}/raw/{name}/{name}.h5",
        "size_bytes": 1_000_000,
        "link_closure": [{"pool": "hall", "path": f"{proposal}/raw/frames"}],
        "missing_links": [],
        "has_preview": True,
        "withdrawn": False,
        "harvested_at": NOW,
    }


def plan_of(i_person: int, i_proposal: int, number: int | None = None) -> SessionPlan:
    """A plan with three raw mounts, a processed folder and a home."""
    who, proposal = person(i_person), proposal_id(i_proposal)
    raw = [(f"{proposal}/raw/scan_{i:05d}", "ro", "raw", pid(i_proposal, i)) for i in range(3)]
    mounts = [*raw, (f"{proposal}/processed", "rw", "processed", None), (who.account, "rw", "home", None)]
    return SessionPlan.model_validate(
        {
            "id": f"{i_person if number is None else number:032x}",
            "account": who.account,
            "server_name": f"d-{i_person:010x}",
            "display_name": who.display_name,
            "principal_label": who.subject,
            "place": {
                "name": "here",
                "backend": "docker",
                "pools": ["hall"],
                "healthy_pools": ["hall"],
                "capacity": 99,
            },
            "environment": "standard",
            "image": "registry.example/base@sha256:" + "0" * 64,
            "profile": "small",
            "mounts": [
                {
                    "pool": "home" if purpose == "home" else "hall",
                    "path": path,
                    "source": f"/pools/{path}",
                    "target": f"/facility/{path}",
                    "mode": mode,
                    "purpose": purpose,
                    "pid": named,
                    "proposal": proposal,
                }
                for path, mode, purpose, named in mounts
            ],
            "datasets": [],
            "template": None,
            "uid": None,
            "gid": None,
            "limits": {"cpu": 1, "memory_gib": 1},
            "cluster_limits": {"max_workers": 2, "threads_per_worker": 1, "memory_gib": 1},
            "environment_variables": {},
            "created_at": NOW,
            "expires_at": NOW + timedelta(hours=12),
            "policy_version": POLICY.label,
            "explain": {"chosen": "here", "because": "bytes local", "verdicts": []},
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
