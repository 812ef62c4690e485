"""What every spawner promises, whatever it starts sessions on; subclass it with fixtures.

A subclass gives `backend`: what starts spawners, looks inside a session and harms it from outside.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any, Protocol

import pytest
from jupyterhub.spawner import SpawnException

from beamhub_core.session import SessionInfo
from beamhub_core.word import digest
from beamhub_spawners.session_options import read_options
from contracts.spawner_parts import ACCOUNT, GRANTED_PID, HubPart
from contracts.storage_contract import StorageContract
from contracts.web_stand_in import StandIn

OPTIONS = {"datasets": [GRANTED_PID]}


class Backend(Protocol):
    """What a backend's tests bring."""

    stand_in: StandIn
    part: HubPart

    def spawner(self, server_name: str = "") -> Any:
        """A spawner object that remembers nothing."""
        ...

    def look(self, plan_id: str, code: str) -> str:
        """Run Python code as the session would, and return what it prints."""
        ...

    def kill(self, plan_id: str) -> None:
        """End the session's process behind the hub's back."""
        ...

    def n_objects(self) -> int:
        """Processes or containers of sessions that exist now."""
        ...


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as response:
        return int(response.status)


LOOK = """
import json, os, pathlib
info = json.loads(pathlib.Path(os.environ["BEAMHUB_SESSION_FILE"]).read_text())
file = pathlib.Path(info["datasets"][0]["file"])
linked = file.parents[1] / "detector/frames.h5"
pool = file.parents[3]
said = {"info": info, "granted": file.read_text(), "linked": linked.read_text()}
def attempt(name, call):
    try:
        call(); said[name] = "done"
    except OSError as error:
        said[name] = type(error).__name__
attempt("write raw", lambda: file.write_text("x"))
attempt("make beside raw", lambda: (file.parent / "new").write_text("x"))
attempt("remove raw", file.unlink)
attempt("rename raw", lambda: file.rename(file.with_name("y")))
attempt("read ungranted", (pool / "MA-6202/raw/sample-9/scan.h5").read_text)
attempt("list ungranted", lambda: os.listdir(pool / "MA-6202/raw"))
attempt("write processed", lambda: (pathlib.Path(info["processed"]["MA-5101"]) / "product").write_text("x"))
attempt("write home", lambda: (pathlib.Path(info["home"]) / "note").write_text("x"))
attempt("write notebooks", lambda: (pathlib.Path(info["home"]) / "notebooks/n.ipynb").write_text("x"))
said["variables"] = sorted(os.environ)
said["threads"] = os.environ["OMP_NUM_THREADS"]
print(json.dumps(said))
"""


class SpawnerContract(StorageContract):
    """Tests for any backend; asynchronous parts run in the event loop of the `run` fixture."""

    def start(self, backend: Backend, run: Any, **changes: Any) -> tuple[Any, str]:
        spawner = backend.spawner(**changes)
        spawner.request = read_options(OPTIONS)
        return spawner, run(spawner.start())

    def test_a_session_answers_http_and_shows_what_was_granted_and_nothing_else(
        self, backend: Backend, run: Any
    ) -> None:
        spawner, url = self.start(backend, run)

        assert get(f"{url}{spawner.server.base_url}api") == 200
        said = json.loads(backend.look(spawner.plan.id, LOOK))
        info = SessionInfo.model_validate(said["info"])
        assert said["granted"] == "granted"
        assert said["linked"] == "linked"
        for name in ("write raw", "make beside raw", "remove raw", "rename raw"):
            assert said[name] in ("PermissionError", "OSError"), name
        for name in ("read ungranted", "list ungranted"):
            assert said[name] in ("PermissionError", "FileNotFoundError"), name
        for name in ("write processed", "write home", "write notebooks"):
            assert said[name] == "done", name
        assert info.plan_id == spawner.plan.id
        assert info.plan_hash == digest(spawner.plan)
        assert info.enforced["raw_read_only"]
        assert info.enforced["ungranted_unreadable"]
        assert said["threads"] == "2"
        assert not [name for name in said["variables"] if "CRYPT" in name or "SECRET" in name]
        stored = backend.stand_in.sessions[spawner.plan.id]
        assert stored.record.state == "running"
        assert stored.record.token_digest is not None
        assert stored.record.url == url

    def test_a_new_spawner_object_finds_the_running_server_and_stops_it(
        self, backend: Backend, run: Any
    ) -> None:
        first, url = self.start(backend, run)

        second = backend.spawner()
        second.load_state({})  # what a hub that was killed inside start() has stored: nothing
        assert run(second.poll()) is None
        assert run(second.get_url()).startswith(url)
        run(second.stop())

        assert run(second.poll()) == 0
        assert run(first.poll()) == 0
        assert backend.n_objects() == 0
        assert backend.stand_in.states() == ["ended"]
        assert backend.stand_in.sessions[first.plan.id].record.token_digest is None

    def test_a_server_killed_from_outside_is_seen_as_gone_and_its_plan_closed(
        self, backend: Backend, run: Any
    ) -> None:
        spawner, _ = self.start(backend, run)
        backend.kill(spawner.plan.id)

        async def gone() -> None:
            async with asyncio.timeout(10):
                while await spawner.poll() is None:
                    await asyncio.sleep(0.02)

        run(gone())
        run(spawner.run_post_stop_hook())
        assert backend.stand_in.states() == ["ended"]

    def test_a_second_start_of_a_server_replaces_what_the_first_left(
        self, backend: Backend, run: Any
    ) -> None:
        self.start(backend, run)
        second, _ = self.start(backend, run)

        assert backend.n_objects() == 1
        assert backend.stand_in.states() == ["ended", "running"]
        run(second.stop(now=True))
        assert backend.n_objects() == 0

    def test_a_refusal_makes_nothing_and_says_why(self, backend: Backend, run: Any) -> None:
        spawner = backend.spawner()
        spawner.request = read_options({"datasets": ["demo:XX-0001:unknown"]})
        with pytest.raises(SpawnException, match="no such dataset") as caught:
            run(spawner.start())

        assert caught.value.reason == "not_found"
        assert caught.value.status_code == 404
        assert backend.n_objects() == 0
        assert backend.stand_in.sessions == {}
        assert run(spawner.poll()) == 0

    def test_without_web_nothing_starts_and_what_runs_goes_on(self, backend: Backend, run: Any) -> None:
        running, _ = self.start(backend, run)
        backend.stand_in.is_down = True

        other = backend.spawner(server_name="other")
        other.request = read_options(OPTIONS)
        with pytest.raises(SpawnException, match="gives no answer") as caught:
            run(other.start())
        assert caught.value.status_code == 503
        assert run(running.poll()) is None
        run(running.stop())
        assert run(running.poll()) == 0
        assert backend.n_objects() == 0

    def test_the_start_is_told_in_phases(self, backend: Backend, run: Any) -> None:
        spawner, _ = self.start(backend, run)

        async def told() -> list[dict[str, Any]]:
            return [phase async for phase in spawner.progress()]

        phases = run(told())
        percents = [phase["progress"] for phase in phases]
        assert percents == sorted(percents)
        assert any("Placed on" in phase["message"] for phase in phases)
        assert not any(ACCOUNT in phase["message"] or "/" in phase["message"] for phase in phases)
