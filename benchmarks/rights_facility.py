"""A large facility from a fixed seed: proposals of a hundred datasets and ten memberships each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import DatasetRow, MemberRow, PrincipalRow, ProposalRow
from beamhub_catalogue.rules import apply_policy
from beamhub_catalogue.sessions import store_plan
from beamhub_core.identity import Principal, account_name
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest

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
        apply_policy(session, POLICY, NOW)
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
        "technique": "http://purl.org/pan-science/PaNET/PaNET01101",
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
