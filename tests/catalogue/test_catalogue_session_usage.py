"""What sessions used, and how far their long jobs are, as web keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import SessionProposalRow, SessionRow
from beamhub_catalogue.session_usage import SessionUsage, usage_by, usage_of
from catalogue.catalogue_api_parts import SESSION_TOKEN, Api, open_api
from catalogue.catalogue_parts import INES, NOW, OSCAR, Facility
from catalogue.test_catalogue_session_life import HOUR, at, report, running

JOB = {
    "id": "0" * 16,
    "title": "<b>powder</b>",
    "phase": "running",
    "n_done": 3,
    "n_units": 8,
    "text": "3 of 8",
}
AMOUNTS = st.floats(0, 1e9)


@contextmanager
def staged(folder: Path) -> Iterator[tuple[Facility, Api, CatalogueService]]:
    """A service, its internal API, and its facility."""
    facility = Facility(folder)
    facility.prepare()
    service = facility.service()
    try:
        with open_api(service) as api:
            api.push(INES, OSCAR)
            yield facility, api, service
    finally:
        service.stop()


def row(account: str, *, hours: float, cpu: float, cluster: float, proposals: tuple[str, ...]) -> SessionRow:
    return SessionRow(
        account=account,
        created_at=NOW,
        ended_at=NOW + timedelta(hours=hours),
        expires_at=NOW + timedelta(days=9),
        cpu=cpu,
        memory_gib=2 * cpu,
        cluster_core_s=cluster,
        cluster_memory_gib_s=cluster,
        proposals=[SessionProposalRow(proposal=one, share=1 / len(proposals)) for one in proposals],
    )


@given(
    facts=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.integers(0, 100),
            st.integers(1, 8),
            AMOUNTS,
            st.sets(st.sampled_from(["p", "q", "r"])),
        ),
        max_size=6,
    )
)
def test_people_and_proposals_account_for_all_that_was_used(facts: list[tuple[Any, ...]]) -> None:
    rows = [
        row(account, hours=hours, cpu=cpu, cluster=cluster, proposals=tuple(sorted(named)))
        for account, hours, cpu, cluster, named in facts
    ]
    total = sum((usage_of(one, NOW) for one in rows), SessionUsage())
    for by in ("account", "proposal"):
        summed = sum(usage_by(rows, by, NOW).values(), SessionUsage())  # type: ignore[arg-type]  # both words
        assert summed.notebook_core_s == pytest.approx(total.notebook_core_s)
        assert summed.cluster_core_s == pytest.approx(total.cluster_core_s)


def told(api: Api, plan_id: str, core_s: float) -> int:
    used = {"plan_id": plan_id, "core_s": core_s, "memory_gib_s": 2 * core_s}
    return api.ask("PUT", "/usage", {"sessions": [used]}).status_code


def test_sums_only_grow_and_count_once_however_often_they_are_told(tmp_path: Path) -> None:
    with staged(tmp_path) as (facility, api, service):
        plan = running(facility, api)
        for core_s in (10.0, 30.0, 30.0, 20.0):
            assert told(api, plan.id, core_s) == 204
        assert told(api, "f" * 32, 5.0) == 204  # a session that web forgot
        for wrong in (-1.0, 1e300, "nan"):
            assert (
                api.ask("PUT", "/usage", {"sessions": [{"plan_id": plan.id, "core_s": wrong}]}).status_code
                == 422
            )
        assert api.ask("PUT", "/usage", {"sessions": []}, SESSION_TOKEN).status_code in (401, 403)
        at(facility, NOW + 2 * HOUR)
        with service.database.reading() as session:
            kept = session.get(SessionRow, plan.id)
            assert kept is not None
            used = usage_of(kept, facility.clock())
        assert (used.cluster_core_s, used.cluster_memory_gib_s) == (30.0, 60.0)
        assert used.notebook_core_s == pytest.approx(plan.limits.cpu * 7200)


def test_a_session_tells_of_its_jobs_and_bad_ones_are_refused(tmp_path: Path) -> None:
    with staged(tmp_path) as (facility, api, service):
        plan = running(facility, api)
        report(api, jobs=[JOB])
        (view,) = service.sessions_of(plan.account)
        assert [job.model_dump() for job in view.jobs] == [JOB]
        at(facility, NOW + HOUR)
        report(api)  # of no jobs: what was told stays
        assert service.sessions_of(plan.account)[0].jobs == view.jobs
        for wrong in ([JOB] * 21, [JOB | {"title": "x" * 121}], [JOB | {"more": 1}], [JOB | {"phase": "?"}]):
            answer = api.ask("POST", "/session/report", {"idle_s": 0, "jobs": wrong}, SESSION_TOKEN)
            assert answer.status_code == 422
        with service.database.writing() as session:
            kept = session.get(SessionRow, plan.id)
            assert kept is not None
            kept.jobs = [{"of": "another version"}, json.loads(json.dumps(JOB))]
        assert len(service.sessions_of(plan.account)[0].jobs) == 1
