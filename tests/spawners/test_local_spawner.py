"""The local spawner with real processes, Landlock included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException
from tornado.web import HTTPError

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_core.landlock import available_abi
from beamhub_spawners.local_launcher import Launch, read_launch
from beamhub_spawners.local_spawner import LocalSessionSpawner
from beamhub_spawners.local_view import LocalView
from beamhub_spawners.process_file import SessionStore, is_alive, read_process
from beamhub_spawners.refusal import StartFailed, refuse
from beamhub_spawners.session_environment import token_digest
from beamhub_spawners.session_options import read_options
from beamhub_spawners.sweeper import SETTLE, decide, sweep_once
from contracts.spawner_contract import OPTIONS, SpawnerContract
from contracts.spawner_parts import ACCOUNT, HubPart, facility_fields, hub_part, make_facility
from contracts.web_stand_in import StandIn

pytestmark = pytest.mark.hub

# The same launcher, with code of the test's own in place of the server.
PROBE = [sys.executable, "-P", "-c"]


class LocalBackend:
    def __init__(self, folder: Path, stand_in: StandIn, part: HubPart) -> None:
        self.folder, self.stand_in, self.part = folder, stand_in, part
        self.store = SessionStore(folder / "sessions")

    def spawner(self, server_name: str = "") -> Any:
        return self.part.spawner(LocalSessionSpawner, server_name=server_name)

    def look(self, plan_id: str, code: str) -> str:
        """Run code under the launcher with the very launch file and environment of the session."""
        session = self.store.session(plan_id)
        process = read_process(session.process_file)
        assert process is not None
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
        launch = read_launch(session.launch_file)
        fields = {name: getattr(launch, name) for name in Launch.__slots__}
        fields |= {"arguments": [*PROBE, code], "process_file": str(self.folder / "probe-process.json")}
        probe_file = self.folder / "probe-launch.json"
        probe_file.write_text(Launch(**fields).to_json())
        done = subprocess.run(
            [sys.executable, "-m", "beamhub_spawners.local_launcher", str(probe_file)],
            env=dict(entry.split("=", 1) for entry in environment if entry),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    def kill(self, plan_id: str) -> None:
        process = read_process(self.store.session(plan_id).process_file)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    def n_objects(self) -> int:
        return sum(is_alive(process) for process in self.store.processes())


@pytest.fixture
def backend(tmp_path: Path, stand_in: StandIn, run: Any) -> Iterator[LocalBackend]:
    """A facility with two local places; every process that a test leaves is ended after it."""
    make_facility(tmp_path)
    config = FacilityConfig.model_validate(
        facility_fields(tmp_path, hub_url=stand_in.url, web_url=stand_in.url)
    )
    with hub_part(config, stand_in) as part:
        backend = LocalBackend(tmp_path, stand_in, part)
        yield backend
        stand_in.is_down = False
        for server_name in ("", "other"):
            run(backend.spawner(server_name).end(now=True))
        assert backend.n_objects() == 0
        run(part.platform.web.close())


@pytest.mark.skipif(available_abi() < 3, reason="this kernel has no Landlock of ABI 3")
class TestLocalSpawner(SpawnerContract):
    """The contract on processes of this machine."""

    def test_a_session_reaches_no_secret_no_state_and_nobody_else(
        self, backend: LocalBackend, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "0" * 64)
        monkeypatch.setenv("BEAMHUB_SECRET", "hub-secret")
        (tmp_path / "homes" / "u-other").mkdir(parents=True)
        (tmp_path / "homes" / "u-other" / "note").write_text("private")
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub" / "jupyterhub.sqlite").write_text("database")
        spawner, _ = self.start(backend, run)
        session = backend.store.session(spawner.plan.id)
        process = read_process(session.process_file)
        assert process is not None

        said = json.loads(
            backend.look(
                spawner.plan.id, OUTSIDE.format(folder=str(tmp_path), hub=os.getpid(), top=str(session.top))
            )
        )
        assert {name for name, outcome in said.items() if outcome == "done"} == {"list the view", "use tmp"}
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode()
        assert "hub-secret" not in environment
        assert "CRYPT" not in environment
        assert [part for part in environment.split("\0") if spawner.api_token in part] == [
            f"JUPYTERHUB_API_TOKEN={spawner.api_token}",
            f"JPY_API_TOKEN={spawner.api_token}",
        ]
        for file in (session.launch_file, session.process_file, session.session_file):
            assert spawner.api_token not in file.read_text()

    def test_kernel_plot_dask_terminal_and_own_programs_work_in_a_confined_session(
        self, backend: LocalBackend, run: Any
    ) -> None:
        spawner, _ = self.start(backend, run)
        said = json.loads(backend.look(spawner.plan.id, AT_WORK))
        assert said == {"kernel": "6", "terminal": "from a terminal", "program": "from a program"}

    def test_the_view_shows_data_processed_notebooks_and_home_to_their_owner_only(
        self, backend: LocalBackend, run: Any
    ) -> None:
        spawner, _ = self.start(backend, run)
        session = backend.store.session(spawner.plan.id)
        for folder in (backend.folder / "homes" / ACCOUNT, session.top, session.tmp):
            assert folder.stat().st_mode & 0o777 == 0o700
        for file in (session.launch_file, session.log_file, session.session_file):
            assert file.stat().st_mode & 0o077 == 0
        view = session.view
        pool = backend.folder / "pools" / "hall-a"
        links = {
            str(link.relative_to(view)): link.readlink() for link in view.rglob("*") if link.is_symlink()
        }
        home = backend.folder / "homes" / ACCOUNT
        assert links == {
            "data/MA-5101/sample-1": pool / "MA-5101/raw/sample-1",
            "processed/MA-5101": pool / "MA-5101/processed",
            "notebooks": home / "notebooks",
            "home": home,
        }
        assert [path.name for path in (home / "notebooks").iterdir()] == ["powder-MA-5101-sample-1.ipynb"]

    def test_a_link_put_in_place_of_a_granted_folder_stops_the_start(
        self, backend: LocalBackend, run: Any
    ) -> None:
        folder = backend.folder / "pools/hall-a/MA-5101/raw/sample-1"
        folder.rename(folder.with_name("moved"))
        folder.symlink_to(backend.folder / "pools/hall-a/MA-6202/raw/sample-9")
        spawner = backend.spawner()
        spawner.request = read_options(OPTIONS)
        with pytest.raises(
            StartFailed, match="its folder MA-5101/raw/sample-1: a component of it is a symbolic link"
        ):
            run(spawner.start())
        assert backend.stand_in.states() == ["failed"]
        assert backend.n_objects() == 0

    def test_a_home_that_is_a_link_stops_the_start(self, backend: LocalBackend, run: Any) -> None:
        (backend.folder / "homes").mkdir()
        (backend.folder / "homes" / ACCOUNT).symlink_to(backend.folder / "secrets")
        spawner = backend.spawner()
        spawner.request = read_options(OPTIONS)
        with pytest.raises(
            StartFailed, match="its home or scratch folder: a component of it is a symbolic link"
        ):
            run(spawner.start())
        assert backend.stand_in.states() == ["failed"]

    def test_refused_options_do_not_stay_for_the_next_start(self, backend: LocalBackend, run: Any) -> None:
        spawner = backend.spawner()
        spawner.orm_spawner.user_options = {"uid": 0}
        with pytest.raises(HTTPError, match="uid: unknown key"):
            run(spawner._run_apply_user_options({"uid": 0}))
        assert spawner.orm_spawner.user_options == {}
        assert backend.stand_in.sessions == {}

    def test_what_web_refuses_with_the_plan_is_the_persons_answer_and_makes_nothing(
        self, backend: LocalBackend, run: Any
    ) -> None:
        backend.stand_in.refusals.append(refuse("over_quota", "sessions", "You use 4 of 4 sessions.").refusal)
        spawner = backend.spawner()
        spawner.request = read_options(OPTIONS)
        with pytest.raises(SpawnException, match="4 of 4 sessions") as caught:
            run(spawner.start())
        assert (caught.value.reason, caught.value.status_code) == ("over_quota", 403)
        assert backend.n_objects() == 0

    def test_a_hub_killed_inside_a_start_leaves_a_server_that_is_found_and_adopted(
        self, backend: LocalBackend, run: Any
    ) -> None:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_HUB, str(backend.folder), backend.stand_in.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert backend.stand_in.states() == ["starting"]
        (plan_id,) = backend.stand_in.sessions

        after = backend.spawner()
        after.load_state({})
        assert run(after.poll()) is None
        assert after.http_timeout >= 300
        run(after._await_http(60))
        process = read_process(backend.store.session(plan_id).process_file)
        assert process is not None
        decision = decide(
            tuple(backend.stand_in.sessions.values()),
            run(LocalView(backend.part.platform.config).look()),
            now=utc_now() + 2 * SETTLE,
        )
        assert [found.plan_id for found in decision.adopted] == [plan_id]
        assert decision.adopted[0].token_digest == token_digest("server-token-0123456789abcdef")
        assert decision.lost == decision.orphans == ()
        run(after.stop(now=True))
        assert not is_alive(process)

    def test_a_sweep_closes_lost_rows_and_ends_processes_whose_row_is_closed(
        self, backend: LocalBackend, run: Any
    ) -> None:
        spawner, _ = self.start(backend, run)
        stand_in, config = backend.stand_in, backend.part.platform.config
        web = backend.part.platform.web
        alive = stand_in.sessions[spawner.plan.id]
        aged = alive.plan.model_copy(update={"id": "f" * 32, "created_at": utc_now() - 2 * SETTLE})
        stand_in.sessions[aged.id] = alive.model_copy(update={"plan": aged})

        assert run(sweep_once(config, web)).lost == (aged.id,)
        assert [stand_in.sessions[one].record.state for one in (spawner.plan.id, aged.id)] == [
            "running",
            "ended",
        ]

        stand_in.update(spawner.plan.id, {"state": "ended"})
        assert (
            run(sweep_once(config, web)).orphans == ()
        )  # too young: it may be a start or a stop in progress
        file = backend.store.session(spawner.plan.id).process_file
        os.utime(file, (0, 0))
        assert len(run(sweep_once(config, web)).orphans) == 1
        assert backend.n_objects() == 0
        assert run(spawner.poll()) == 0

    def test_a_sweep_spares_what_web_does_not_know(self, backend: LocalBackend, run: Any) -> None:
        spawner, _ = self.start(backend, run)
        os.utime(backend.store.session(spawner.plan.id).process_file, (0, 0))
        backend.stand_in.sessions.clear()
        decision = run(sweep_once(backend.part.platform.config, backend.part.platform.web))
        assert len(decision.orphans) == 1
        assert backend.n_objects() == 1

    def test_a_sweep_without_web_ends_nothing(self, backend: LocalBackend, run: Any) -> None:
        self.start(backend, run)
        backend.stand_in.is_down = True
        with pytest.raises(Unavailable):
            run(sweep_once(backend.part.platform.config, backend.part.platform.web))
        assert backend.n_objects() == 1


AT_WORK = """
import json, os, pathlib, pty, subprocess
from jupyter_client.manager import start_new_kernel
cell = '''
import matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt, io, numpy as np, h5py, hdf5plugin
plt.plot([1, 2]); plt.savefig(io.BytesIO(), format="png")
from distributed import Client
with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
    print(client.submit(sum, [1, 2, 3]).result())
'''
manager, client = start_new_kernel(kernel_name="python3")
try:
    printed = []
    def hook(message):
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            printed.append(content["text"])
        elif message["msg_type"] == "error":
            printed.extend(content["traceback"])
    client.execute_interactive(cell, timeout=50, output_hook=hook)
finally:
    client.stop_channels(); manager.shutdown_kernel(now=True)
parts = []
def keep(fd):
    data = os.read(fd, 1000); parts.append(data); return b""
pty.spawn(["/bin/sh", "-c", "echo from a terminal"], keep)
program = pathlib.Path.home() / "program"
program.write_text("#!/bin/sh\\necho from a program\\n"); program.chmod(0o700)
own = subprocess.run([program], capture_output=True, text=True).stdout.strip()
said = {"kernel": "".join(printed).strip(), "terminal": b"".join(parts).decode().strip(), "program": own}
print()
print(json.dumps(said))
"""

OUTSIDE = """
import json, os, pathlib
folder, top, hub = pathlib.Path({folder!r}), pathlib.Path({top!r}), {hub}
said = {{}}
def attempt(name, call):
    try:
        call(); said[name] = "done"
    except OSError as error:
        said[name] = type(error).__name__
attempt("list the view", lambda: os.listdir(top / "session" / "data"))
attempt("use tmp", lambda: (pathlib.Path(os.environ["TMPDIR"]) / "x").write_text("x"))
attempt("write the view", lambda: (top / "session" / "new").write_text("x"))
attempt("change the session file", lambda: (top / "session.json").write_text("x"))
attempt("read the launch file", (top / "launch.json").read_text)
attempt("forge the process file", lambda: (top / "process.json").write_text("x"))
attempt("read the log", (top / "server.log").read_text)
attempt("read a secret", (folder / "secrets" / "web-client").read_text)
attempt("read the database", (folder / "hub" / "jupyterhub.sqlite").read_text)
attempt("read another home", (folder / "homes" / "u-other" / "note").read_text)
attempt("list homes", lambda: os.listdir(folder / "homes"))
attempt("list sessions", lambda: os.listdir(folder / "sessions"))
attempt("read shadow", pathlib.Path("/etc/shadow").read_text)
attempt("read the hub's environment", pathlib.Path(f"/proc/{{hub}}/environ").read_bytes)
attempt("look through the hub's root", lambda: os.listdir(f"/proc/{{hub}}/root"))
attempt("signal the hub", lambda: os.kill(hub, 0))
attempt("change a template", lambda: (folder / "templates/powder/powder.ipynb").write_text("x"))
print(json.dumps(said))
"""

KILLED_HUB = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from contracts.spawner_parts import facility_fields, hub_part
from contracts.web_stand_in import StandIn
from beamhub_core.config import FacilityConfig
from beamhub_spawners.local_spawner import LocalSessionSpawner
from beamhub_spawners.session_options import read_options

class KilledInside(LocalSessionSpawner):
    async def _await_http(self, timeout_s):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    url = sys.argv[2]
    config = FacilityConfig.model_validate(facility_fields(Path(sys.argv[1]), hub_url=url, web_url=url))
    with hub_part(config, StandIn(url=url)) as part:
        spawner = part.spawner(KilledInside)
        spawner.request = read_options({OPTIONS!r})
        await spawner.start()

asyncio.run(main())
"""
