"""A running session and web: time left, extension, idleness, a preparation nobody opened, phases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import SessionRow
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.session import SessionPlan
from catalogue.catalogue_api_parts import SESSION_TOKEN, Api, open_api
from catalogue.catalogue_parts import INES, NOW, OSCAR, Facility, session_plan

HOUR = timedelta(hours=1)
LONG = {"idle_h": 2, "lifetime_h": 8, "max_lifetime_h": 24}


@contextmanager
def stage(folder: Path, profile: dict[str, Any], **sessions: Any) -> Iterator[tuple[Facility, Api]]:
    """A service whose only profile is this one."""
    facility = Facility(folder)
    facility.prepare()
    config = facility.config()
    facts = config.sessions.model_dump(mode="json")
    facts["profiles"] = [facts["profiles"][0] | profile]
    service = CatalogueService(
        config.model_copy(update={"sessions": SessionsConfig.model_validate(facts | sessions)}),
        facility.clock,
        facility.wall_clock,
    )
    try:
        with open_api(service) as api:
            api.push(INES, OSCAR)
            yield facility, api
    finally:
        service.stop()


def at(facility: Facility, when: datetime) -> None:
    facility.clock.now = facility.wall_clock.now = when


def running(facility: Facility, api: Api, **changes: Any) -> SessionPlan:
    return api.running(session_plan(facility, INES, processed=None, **changes))


def report(api: Api, token: str = SESSION_TOKEN, **facts: Any) -> dict[str, Any]:
    answer = api.ask("POST", "/session/report", {"idle_s": 0} | facts, token)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def verdict(api: Api) -> tuple[str, str]:
    (one,) = api.ask("POST", "/recheck").json()
    return one["action"], one["reason"]


def test_a_session_learns_its_time_and_extends_it_with_its_own_token(tmp_path: Path) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        running(facility, api)
        at(facility, NOW + 7 * HOUR)
        told = report(api)
        assert datetime.fromisoformat(told["expires_at"]) == NOW + 8 * HOUR
        assert datetime.fromisoformat(told["extends_to"]) == NOW + 15 * HOUR
        assert (told["rights_hold"], told["idle_stop_at"], told["why_not"]) == (True, None, "")
        extended = api.ask("POST", "/session/extend", token=SESSION_TOKEN)
        assert datetime.fromisoformat(extended.json()["expires_at"]) == NOW + 15 * HOUR
        again = api.ask("POST", "/session/extend", token=SESSION_TOKEN)
        assert again.status_code == 403
        assert "cannot be extended further" in again.json()["refusal"]["reason"]
        at(facility, NOW + 14 * HOUR)
        api.ask("POST", "/session/extend", token=SESSION_TOKEN)
        at(facility, NOW + 21 * HOUR)
        api.ask("POST", "/session/extend", token=SESSION_TOKEN)
        assert "24 hours" in report(api)["why_not"]


def test_a_size_without_extension_says_so_and_ended_rights_are_told(tmp_path: Path) -> None:
    with stage(tmp_path, {"lifetime_h": 8}) as (facility, api):
        running(facility, api)
        told = report(api)
        assert told["extends_to"] is None
        assert "cannot be extended" in told["why_not"]
        api.ask("DELETE", f"/principals/{INES.account}")
        told = report(api)
        assert told["rights_hold"] is False
        assert "right" in told["why_not"]


@pytest.mark.parametrize("path", ["/session/report", "/session/extend"])
def test_only_the_token_of_a_live_session_speaks_for_it(tmp_path: Path, path: str) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        plan = running(facility, api)
        for token in (None, "x" * 30, "hub-token-0123456789abcdef", SESSION_TOKEN[:-1]):
            assert api.ask("POST", path, {"idle_s": 0}, token).status_code == 401
        api.update(plan, state="ended")
        assert api.ask("POST", path, {"idle_s": 0}, SESSION_TOKEN).status_code == 401


@pytest.mark.parametrize(
    "facts",
    [
        {"idle_s": -1},
        {"idle_s": "nan"},
        {"idle_s": 1e12},
        {"busy_with": ["mining"]},
        {"busy_with": ["kernel"] * 5},
        {"told_of": "soon"},
        {"account": "u-" + "a" * 26},
        {"first_cell_ago_s": -5},
    ],
)
def test_a_report_of_another_shape_changes_nothing(tmp_path: Path, facts: dict[str, Any]) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        running(facility, api)
        answer = api.ask("POST", "/session/report", {"idle_s": 0} | facts, SESSION_TOKEN)
        assert answer.status_code == 422
        assert verdict(api)[0] == "none"


def test_an_idle_session_is_warned_then_stopped_and_anything_that_happens_ends_the_warning(
    tmp_path: Path,
) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        running(facility, api)
        at(facility, NOW + 3 * HOUR)
        told = report(api, idle_s=3 * 3600)
        stop_at = told["idle_stop_at"]
        assert datetime.fromisoformat(stop_at) == NOW + 3 * HOUR + timedelta(minutes=15)
        assert verdict(api)[0] == "warn"
        at(facility, NOW + 3 * HOUR + timedelta(minutes=1))
        assert report(api, idle_s=3 * 3600 + 60, told_of=stop_at)["idle_stop_at"] == stop_at
        at(facility, NOW + 3 * HOUR + timedelta(minutes=16))
        assert verdict(api)[0] == "warn"  # it was not asked since
        report(api, idle_s=3 * 3600 + 960)
        assert verdict(api) == ("stop", "Nothing happened in it for a long time.")
        at(facility, NOW + 3 * HOUR + timedelta(minutes=17))
        report(api, idle_s=4 * 3600, busy_with=["kernel"])
        assert verdict(api)[0] == "none"


def test_the_warning_and_the_end_outlive_a_restart_of_web(tmp_path: Path) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        running(facility, api)
        at(facility, NOW + 3 * HOUR)
        stop_at = report(api, idle_s=3 * 3600)["idle_stop_at"]
        at(facility, NOW + 3 * HOUR + timedelta(minutes=1))
        report(api, idle_s=3 * 3600, told_of=stop_at)
        api.ask("POST", "/session/extend", token="wrong-token-0123456789")
        config = facility.config()
        facts = config.sessions.model_dump(mode="json")
        facts["profiles"] = [facts["profiles"][0] | LONG]
        again = config.model_copy(update={"sessions": SessionsConfig.model_validate(facts)})
    service = CatalogueService(again, facility.clock, facility.wall_clock)
    try:
        with open_api(service) as api:
            at(facility, NOW + 3 * HOUR + timedelta(minutes=20))
            assert report(api, idle_s=3.4 * 3600)["idle_stop_at"] == stop_at
            assert verdict(api)[0] == "stop"
            service.keep_session(INES.account, f"d-{1:010x}")
            assert verdict(api)[0] == "none"
            at(facility, NOW + 9 * HOUR)
            assert verdict(api) == ("stop", "The session reached its lifetime.")
    finally:
        service.stop()


def test_what_nobody_opened_is_stopped_after_its_time(tmp_path: Path) -> None:
    with stage(tmp_path, LONG, pre_start={"unused_min": 20}) as (facility, api):
        running(facility, api, is_prepared=True)
        at(facility, NOW + timedelta(minutes=19))
        report(api, idle_s=10)
        assert verdict(api)[0] == "none"
        at(facility, NOW + timedelta(minutes=21))
        assert verdict(api) == ("stop", "It was prepared, and nobody opened it.")
        report(api, is_used=True)
        assert verdict(api)[0] == "none"


def test_a_preparation_gives_way_to_who_waits(tmp_path: Path) -> None:
    with stage(tmp_path, LONG, pre_start={"unused_min": 20}) as (facility, api):
        running(facility, api, is_prepared=True)
        wanted = {
            "account": OSCAR.account,
            "server_name": "d-1",
            "display_name": "",
            "request": {},
            "places": ["here"],
            "limits": {"cpu": 1, "memory_gib": 1},
        }
        assert api.ask("PUT", "/tickets", wanted).status_code == 200
        assert verdict(api) == ("stop", "It was prepared and not opened, and others wait for its room.")
        report(api, is_used=True)
        assert verdict(api)[0] == "none"


def test_preparing_needs_the_facilitys_word_its_own_number_and_nobody_waiting(tmp_path: Path) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        answer = api.store(session_plan(facility, INES, processed=None, is_prepared=True))
        assert answer.status_code == 403
        assert "not offered" in answer.json()["refusal"]["reason"]
    (tmp_path / "on").mkdir()
    with stage(tmp_path / "on", LONG, pre_start={}) as (facility, api):
        assert api.store(session_plan(facility, INES, processed=None, is_prepared=True)).status_code == 201
        second = session_plan(facility, INES, processed=None, number=2, is_prepared=True)
        assert api.store(second).json()["refusal"]["code"] == "over_quota"
        wanted = {
            "account": OSCAR.account,
            "server_name": "d-9",
            "display_name": "",
            "request": {},
            "places": ["here"],
            "limits": {"cpu": 1, "memory_gib": 1},
        }
        assert api.ask("PUT", "/tickets", wanted).status_code == 200
        third = session_plan(facility, OSCAR, processed=None, number=3, is_prepared=True)
        assert api.store(third).json()["refusal"]["code"] == "full"


def test_the_phases_of_a_start_are_kept_together(tmp_path: Path) -> None:
    with stage(tmp_path, LONG) as (facility, api):
        plan = running(facility, api)
        api.ask("POST", f"/sessions/{plan.id}/update", {"phases_s": {"plan": 0.1, "ready": 1.5}})
        api.ask("POST", f"/sessions/{plan.id}/update", {"phases_s": {"route": 0.02}})
        at(facility, NOW + timedelta(seconds=40))
        report(api, first_cell_ago_s=10)
        report(api, first_cell_ago_s=10)
        own = facility.service()
        try:
            with own.database.reading() as session:
                row = session.get(SessionRow, plan.id)
                assert row is not None and row.phases is not None
                assert row.phases["seconds"] == {"plan": 0.1, "ready": 1.5, "route": 0.02, "first_cell": 30.0}
        finally:
            own.stop()
