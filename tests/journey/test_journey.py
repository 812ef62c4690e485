"""The journey as a test: the same command that a person runs, its JSON checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
STOPS = ["portal", "login", "grants", "placement", "plan", "spawn", "template", "reduction", "catalogue"]


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make journey` prints; run once for this module."""
    folder = Path(os.environ.get("BEAMHUB_JOURNEY_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    command = [sys.executable, "-m", "journey", "--screenshots", str(folder)]
    done = subprocess.run(command, cwd=TESTS, stdout=subprocess.PIPE, text=True, timeout=600, check=False)
    result: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, result.get("error")
    return result


@pytest.mark.hub
@pytest.mark.browser
def test_the_main_job_passes_its_nine_stops_with_evidence(journey: dict[str, Any]) -> None:
    assert journey["ok"] is True
    assert [stop["name"] for stop in journey["stops"]] == STOPS
    evidence = {stop["name"]: stop["evidence"] for stop in journey["stops"]}
    assert evidence["plan"]["plan_hash"]
    assert evidence["spawn"]["server_pid"] > 1
    assert evidence["reduction"]["tasks_run"] > 0
    assert len(evidence["reduction"]["product_sha256"]) == 64
    assert evidence["catalogue"]["product_pid"].endswith(evidence["reduction"]["product_sha256"][:20])


@pytest.mark.hub
@pytest.mark.browser
def test_every_attempt_to_leave_the_session_is_refused(journey: dict[str, Any]) -> None:
    assert {name for name, outcome in journey["enforced"].items() if not outcome["enforced"]} == set()


@pytest.mark.hub
@pytest.mark.browser
def test_a_killed_hub_costs_neither_a_variable_nor_a_line_of_output(journey: dict[str, Any]) -> None:
    assert journey["hub_death"]["variable_kept"] is True
    assert journey["hub_death"]["cell_lines"] == 16


@pytest.mark.hub
@pytest.mark.browser
def test_screenshots_show_what_a_person_sees(journey: dict[str, Any]) -> None:
    assert {"portal.png", "dataset.png", "start.png", "sessions.png", "notebook.png"} <= set(
        journey["screenshots"]
    )
