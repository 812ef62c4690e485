"""The engine and the guards against the oracle, in random worlds put into real tables.

As a program it compares many cases and writes what it saw: `make soak`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import ActRow, DatasetRow, LostEntitlementRow, StaffRow
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import Facility  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import SOURCE, Made, member_row, proposal_row, put  # likewise
from catalogue.policy_building import build_world
from catalogue.policy_oracle import Answer, Oracle
from catalogue.policy_world import CHECKED, DOCUMENT, Dataset, Proposal, Row, World

SECOND = timedelta(seconds=1)
SEED = 20260601


def settle(facility: Facility, service: CatalogueService, world: World) -> None:
    """Put a world into the tables."""
    facility.write_document(DOCUMENT | {"timezone": world.zone})
    assert service.rules.refresh().version == DOCUMENT["version"]
    rows = [
        proposal_row(
            p.name, p.word, p.end, instrument=p.instrument, start=p.start, access_route=p.route or ""
        )
        for p in world.proposals.values()
    ]
    members: list[Any] = [member_row(r.proposal, str(r.role), **_columns(r)) for r in world.rows] + [
        StaffRow(source=SOURCE, instrument=r.instrument, name="Somebody", **_columns(r)) for r in world.staff
    ]
    accounts = {who.subject: who.account for who in world.people.values() if who}
    members += [
        LostEntitlementRow(account=accounts[subject], proposal=name, lost_at=CHECKED)
        for subject, name in world.lost
    ]
    members += [act for p in world.proposals.values() for act in _acts(p)]
    members += [_withdrawal(d) for d in world.datasets if d.withdrawn]
    made = [Made(d.pid, d.proposal, d.inputs, d.withdrawn, d.private_to) for d in world.datasets]
    put(service, rows, members, made)


def _columns(row: Row) -> dict[str, Any]:
    none = dict.fromkeys(("issuer", "subject", "orcid", "facility_account"))
    removed = CHECKED if row.removed else None
    return none | dict(row.identity) | {"since": row.since, "until": row.until, "removed_at": removed}


def _acts(p: Proposal) -> list[ActRow]:
    told: list[dict[str, Any]] = [{"kind": "extension", "months": months} for months in p.extensions]
    told += [{"kind": "early_release", "day": p.released}] if p.released else []
    told += [{"kind": "support_consent", "until": p.support_until}] if p.support_until else []
    told += [{"kind": "withdrawal"}] if p.withdrawn else []
    # One that was revoked, and counts no more.
    told += [{"kind": "withdrawal", "revoked_at": CHECKED, "revoked_by": "operator"}]
    return [
        ActRow(
            id=f"{p.name}-{i}",
            proposal=p.name,
            reason="test",
            made_by="operator",
            made_at=CHECKED + i * SECOND,
            **act,
        )
        for i, act in enumerate(told)
    ]


def _withdrawal(d: Dataset) -> ActRow:
    return ActRow(
        id=f"of {d.pid}",
        proposal=d.proposal,
        pid=d.pid,
        kind="withdrawal",
        reason="test",
        made_by="operator",
        made_at=CHECKED,
    )


def told_by(world: World, who: Principal | None, now: datetime) -> dict[str, Answer]:
    """The oracle's answers, by pid."""
    oracle = Oracle(world, who, now)
    return {d.pid: oracle.answer(d) for d in world.datasets}


def answers_of(service: CatalogueService, who: Principal | None) -> dict[str, Answer]:
    """What engine and guards say of every dataset, which must be the same where both speak."""
    with service.desk.reading(who) as catalogue:
        rows = catalogue.session.scalars(select(DatasetRow)).all()
        decisions = catalogue.judge.on_datasets(rows)
        known = set(catalogue.session.scalars(catalogue.guard.datasets(DatasetRow.pid)))
        readable = catalogue.guard.datasets(DatasetRow.pid).where(catalogue.guard.reads())
        read = set(catalogue.session.scalars(readable))
    assert known == {pid for pid, d in decisions.items() if d.visibility != "hidden"}
    assert read == {pid for pid, d in decisions.items() if d.may_read}
    return {
        pid: (d.visibility != "hidden", d.may_read, d.may_mount, d.may_write) for pid, d in decisions.items()
    }


def compare_many(
    facility: Facility, service: CatalogueService, n_cases: int, seed: int = SEED
) -> Counter[Answer]:
    """Compare at least so many cases (a dataset, a reader, an instant); how often each answer was seen."""
    rng = random.Random(seed)  # noqa: S311  # chance, not secrecy
    seen: Counter[Answer] = Counter()
    while seen.total() < n_cases:
        world = build_world(rng, n_proposals=12, n_datasets=30, n_instants=10)
        settle(facility, service, world)
        for now in world.instants:
            facility.clock.now = now
            for name, who in world.people.items():
                expected = told_by(world, who, now)
                assert answers_of(service, who) == expected, (name, now)
                seen.update(expected.values())
    return seen


def main() -> None:
    """Compare many cases, and write the count as JSON."""
    parser = argparse.ArgumentParser(description="The policy engine against its oracle.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="beamhub-soak-") as folder:
        facility = Facility(Path(folder))
        facility.prepare()
        service = facility.service()
        seen = compare_many(facility, service, options.cases)
        service.stop()
    names = ("knows", "reads", "mounts", "writes")
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"make soak (cases={options.cases}, seed={SEED})",
        "cases": seen.total(),
        "differences": 0,
        "seconds": round(time.monotonic() - begun, 1),
        "answers": {
            ", ".join(n for n, yes in zip(names, answer, strict=True) if yes) or "nothing": count
            for answer, count in seen.most_common()
        },
    }
    text = json.dumps(figures, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
