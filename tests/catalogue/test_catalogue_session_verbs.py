"""`beamhub session`, and the time of a session: why it runs there, until when, and its extension."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from beamhub_catalogue import CatalogueService
from beamhub_core.command import main
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.placement_words import placement_words
from beamhub_core.rights import Refused
from beamhub_core.session import ExplainRecord, PlaceVerdict, SessionPlan
from catalogue.catalogue_api_parts import RAW, Api, copy_of, mount_of, open_api, plan_with, prepare_with_data
from catalogue.catalogue_parts import COLIN, INES, NOW, Facility, session_plan

FOLDER = "MA-2/raw/scan1"
EXPLAIN = ExplainRecord(
    chosen="here",
    because="most of the data is local there",
    verdicts=(
        PlaceVerdict(place="far", fits=False, reasons=("storage pool hall-a is not mounted there",)),
        PlaceVerdict(
            place="here", fits=True, reasons=("7 of 7 bytes are local", "1 of 4 sessions run there")
        ),
        PlaceVerdict(place="near", fits=True, reasons=("0 of 7 bytes are local",)),
    ),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_with_data(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def stage(prepared: Path, tmp_path: Path) -> Iterator[tuple[Facility, CatalogueService, Api]]:
    """A profile of 8 hours that may be extended to 20, and a proposal of 30 processor hours."""
    facility = copy_of(prepared, tmp_path / "stocked")
    config = facility.config()
    facts = config.sessions.model_dump(mode="json")
    facts["profiles"][0] |= {"lifetime_h": 8, "max_lifetime_h": 20}
    facts["limits"] = {"cpu_hours_of": {"OP-1": 10}}
    config = config.model_copy(update={"sessions": SessionsConfig.model_validate(facts)})
    service = CatalogueService(config, facility.clock, facility.wall_clock)
    try:
        with open_api(service) as api:
            api.push(INES, COLIN)
            yield facility, service, api
    finally:
        service.stop()


def running(facility: Facility, api: Api, **changes: Any) -> SessionPlan:
    return api.running(plan_with(facility, INES, mount_of(facility, FOLDER, pid=RAW), **changes))


def later(facility: Facility, hours: float) -> None:
    facility.clock.now = facility.wall_clock.now = NOW + timedelta(hours=hours)


def test_an_extension_moves_the_record_and_not_the_plan_up_to_the_profiles_last_hour(
    stage: tuple[Facility, CatalogueService, Api],
) -> None:
    facility, service, api = stage
    plan = running(facility, api)
    ends = []
    for hours in (7, 14):
        later(facility, hours)
        api.push(INES.model_copy(update={"checked_at": facility.clock.now}))
        ends.append(service.extend_session(INES.account, plan.id))
    assert ends == [NOW + timedelta(hours=15), NOW + timedelta(hours=20)]
    stored = api.ask("GET", f"/sessions/{plan.id}").json()
    assert SessionPlan.model_validate(stored["plan"]) == plan
    assert stored["record"]["expires_at"] == "2026-06-02T08:00:00Z"
    (verdict,) = api.ask("POST", "/recheck").json()
    assert verdict["action"] != "stop"
    with pytest.raises(Refused, match="cannot be extended further"):
        service.extend_session(INES.account, plan.id)
    later(facility, 21)
    api.push(INES.model_copy(update={"checked_at": facility.clock.now}))
    (verdict,) = api.ask("POST", "/recheck").json()
    assert (verdict["action"], verdict["reason"]) == ("stop", "The session reached its lifetime.")


def test_only_the_owner_extends_and_only_while_it_runs_and_the_rights_hold(
    stage: tuple[Facility, CatalogueService, Api],
) -> None:
    facility, service, api = stage
    plan = running(facility, api)
    later(facility, 2)
    with pytest.raises(Refused, match="does not run"):
        service.extend_session(COLIN.account, plan.id)
    found = service.extension_of(plan.id)
    assert found is not None
    assert found.latest == NOW + timedelta(hours=10)
    api.ask("DELETE", f"/principals/{INES.account}")
    with pytest.raises(Refused, match="cannot be extended"):
        service.extend_session(INES.account, plan.id)
    api.update(plan, state="ended")
    with pytest.raises(Refused, match="does not run"):
        service.extend_session(INES.account, plan.id)


def test_an_extension_needs_its_proposals_hours(stage: tuple[Facility, CatalogueService, Api]) -> None:
    facility, service, api = stage
    words = {"technique": "x", "instrument": "i", "title": "t", "file": "/f", "pid": "p", "proposal": "OP-1"}
    plan = api.running(session_plan(facility, INES, processed=None, datasets=[words]))
    later(facility, 7)
    with pytest.raises(Refused, match=r"2\.0 of 10 processor hours left") as caught:
        service.extend_session(INES.account, plan.id)
    assert caught.value.refusal.code == "over_quota"


def test_why_here_and_not_there_reads_as_lines() -> None:
    assert placement_words(EXPLAIN) == (
        "Runs in here: most of the data is local there.",
        "here, chosen: 7 of 7 bytes are local; 1 of 4 sessions run there.",
        "near, would do as well: 0 of 7 bytes are local.",
        "far, not possible: storage pool hall-a is not mounted there.",
    )


def test_the_verbs_tell_what_runs_and_why(
    stage: tuple[Facility, CatalogueService, Api], capsys: pytest.CaptureFixture[str]
) -> None:
    facility, service, api = stage
    plan = running(facility, api, explain=EXPLAIN, trace_id="ab" * 16)
    api.ask("POST", f"/sessions/{plan.id}/update", {"phases_s": {"plan": 0.5, "boot": 2.0}})
    path = facility.folder / "facility.yaml"
    path.write_text(yaml.safe_dump(json.loads(service.config.model_dump_json())))
    assert main(["session", "list", "--config", str(path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["state"], one["place"]) for one in listed["sessions"]] == [
        (plan.id, "running", "here")
    ]
    assert main(["session", "why", plan.id[-32:], "--config", str(path)]) == 0
    said = capsys.readouterr().out
    for words in (*placement_words(EXPLAIN), "phase boot: 2.000 s", f"Trace {'ab' * 16}"):
        assert words in said
    assert main(["session", "why", plan.id, "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["explain"] == EXPLAIN.model_dump(mode="json")
    for wrong in ("ffffff", "no-id", "%"):
        assert main(["session", "why", wrong, "--config", str(path)]) == 3
    api.update(plan, state="ended")
    assert main(["session", "stop", plan.id, "--config", str(path)]) == 0
    assert "already" in capsys.readouterr().out
