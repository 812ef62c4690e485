"""What people and proposals may use, counted with the plan that is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.admission import hours_committed, limits_of
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.identity import Principal
from beamhub_core.session import SessionPlan
from catalogue.catalogue_api_parts import Api, open_api
from catalogue.catalogue_parts import INES, NOW, OSCAR, SAM, Facility, session_plan

ROLES = ("everyone", "instrument_scientist", "admin")


@contextmanager
def stage(folder: Path, **limits: Any) -> Iterator[tuple[Facility, Api]]:
    """A service with these limits, and its API."""
    facility = Facility(folder)
    facility.prepare()
    config = facility.config()
    facts = config.sessions.model_dump(mode="json") | {"limits": limits}
    place = facts["places"][0] | {"capacity": 100, "gpus": 3, "memory_gib": 64}
    sessions = SessionsConfig.model_validate(facts | {"places": [place]})
    service = CatalogueService(
        config.model_copy(update={"sessions": sessions}), facility.clock, facility.wall_clock
    )
    try:
        with open_api(service) as api:
            api.push(INES, OSCAR, SAM)
            yield facility, api
    finally:
        service.stop()


def plan_of(facility: Facility, who: Principal, number: int, **changes: Any) -> SessionPlan:
    """A plan with what it uses: cpu, memory_gib, gpus, proposals."""
    limits = {"cpu": changes.pop("cpu", 1), "memory_gib": changes.pop("memory_gib", 1)}
    limits["gpus"] = changes.pop("gpus", 0)
    words = {"technique": "x", "instrument": "i", "title": "t", "file": "/f"}
    datasets = [{"pid": f"p:{name}", "proposal": name} | words for name in changes.pop("proposals", ())]
    return session_plan(
        facility, who, processed=None, number=number, limits=limits, datasets=datasets, **changes
    )


def refusal_of(answer: Any) -> tuple[str, str]:
    assert answer.status_code == 403, answer.text
    refusal = answer.json()["refusal"]
    return refusal["code"], refusal["reason"]


@pytest.mark.parametrize(
    ("limit", "first", "second", "words"),
    [
        ({"max_servers": 1}, {}, {}, "1 of 1 sessions"),
        ({"max_cpu": 5}, {"cpu": 4}, {"cpu": 2}, "4 of 5 processor cores; this needs 2 and 1 is left"),
        ({"max_memory_gib": 8}, {"memory_gib": 8}, {}, "8 of 8 GiB of memory; this needs 1 and 0 are left"),
        ({"max_gpus": 1}, {"gpus": 1}, {"gpus": 1}, "1 of 1 GPUs"),
    ],
)
def test_a_person_gets_what_the_class_may_have_and_is_told_what_is_left(
    tmp_path: Path, limit: dict[str, Any], first: dict[str, Any], second: dict[str, Any], words: str
) -> None:
    with stage(tmp_path, people=[{"role": "everyone"} | limit]) as (facility, api):
        assert api.store(plan_of(facility, INES, 1, **first)).status_code == 201
        code, reason = refusal_of(api.store(plan_of(facility, INES, 2, **second)))
        assert code == "over_quota"
        assert words in reason
        assert api.store(plan_of(facility, OSCAR, 3, **second)).status_code == 201
        # What does not use the number is not refused for it, and the same server is replaced.
        again = plan_of(facility, INES, 4, **first, server_name=f"d-{1:010x}")
        assert api.store(again).status_code == 201


def test_a_role_gives_more(tmp_path: Path) -> None:
    people = [{"role": "everyone", "max_gpus": 0}, {"role": "instrument_scientist", "max_gpus": 2}]
    with stage(tmp_path, people=people) as (facility, api):
        assert refusal_of(api.store(plan_of(facility, INES, 1, gpus=1)))[0] == "over_quota"
        assert api.store(plan_of(facility, SAM, 2, gpus=2)).status_code == 201


def test_gpus_and_memory_of_a_place_are_given_once(tmp_path: Path) -> None:
    with stage(tmp_path) as (facility, api):
        assert api.store(plan_of(facility, INES, 1, gpus=2)).status_code == 201
        assert refusal_of(api.store(plan_of(facility, OSCAR, 2, gpus=2)))[0] == "full"
        assert api.store(plan_of(facility, OSCAR, 3, gpus=1, memory_gib=60)).status_code == 201
        assert refusal_of(api.store(plan_of(facility, SAM, 4, memory_gib=4)))[0] == "full"


def test_the_hours_of_a_proposal_are_never_overspent_and_come_back_when_a_session_ends(
    tmp_path: Path,
) -> None:
    ends = {"expires_at": NOW + timedelta(hours=10)}
    with stage(tmp_path, proposal_cpu_hours=100, cpu_hours_of={"OP-1": 5}) as (facility, api):
        plan = plan_of(facility, INES, 1, cpu=8, proposals=["MA-2"], **ends)
        assert api.store(plan).status_code == 201
        code, reason = refusal_of(api.store(plan_of(facility, OSCAR, 2, cpu=3, proposals=["MA-2"], **ends)))
        assert code == "over_quota"
        assert "MA-2 has 20.0 of 100 processor hours left; this session may use 30.0" in reason
        # Two proposals carry half each; the smaller budget refuses.
        half = plan_of(facility, OSCAR, 3, cpu=2, proposals=["MA-2", "OP-1"], **ends)
        assert "OP-1 has 5.0 of 5" in refusal_of(api.store(half))[1]
        facility.clock.now = NOW + timedelta(hours=1)
        api.update(plan, state="ended")
        after = plan_of(facility, OSCAR, 4, cpu=9, proposals=["MA-2"], expires_at=NOW + timedelta(hours=11))
        assert api.store(after).status_code == 201  # 8 used and 90 to come


def test_hours_are_counted_by_every_process_on_the_database(tmp_path: Path) -> None:
    with stage(tmp_path, proposal_cpu_hours=10) as (facility, api):
        plan = plan_of(facility, INES, 1, proposals=["MA-2"])
        api.store(plan)
        service = CatalogueService(facility.config(), facility.clock, facility.wall_clock)
        try:
            with service.database.reading() as session:
                assert hours_committed(session, "MA-2") == pytest.approx(8)
                assert hours_committed(session, "OP-1") == 0
        finally:
            service.stop()


@given(
    people=st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(ROLES)},
            optional={
                "max_servers": st.integers(0, 9),
                "max_cpu": st.integers(0, 64),
                "max_gpus": st.integers(0, 8),
            },
        ),
        unique_by=lambda one: one["role"],
        max_size=3,
    ),
    roles=st.sets(st.sampled_from(ROLES[1:])),
    more=st.sampled_from(ROLES[1:]),
)
def test_another_role_never_takes_anything_away(
    people: list[dict[str, Any]], roles: set[str], more: str
) -> None:
    sessions = Facility(Path("/nowhere")).config().sessions.model_dump(mode="json")
    config = SessionsConfig.model_validate(sessions | {"limits": {"people": people}})
    if not any(one["role"] in {"everyone", *roles} for one in people):
        return  # nothing is limited but the number of servers
    before, after = limits_of(config, tuple(roles)), limits_of(config, (*roles, more))
    for name in ("max_servers", "max_cpu", "max_gpus"):
        less, most = getattr(before, name), getattr(after, name)
        assert most is None or (less is not None and most >= less)
