"""The supervisor with real child processes, and the demo's preparation."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beamhub_core.config import read_config
from beamhub_core.demo import Child, DemoLayout, Ports, Supervisor
from beamhub_core.demo.layout import FolderUnusable, PortInUse
from beamhub_core.demo.prepare import TOKENS, build_config, prepare, with_gateway, write_secrets
from beamhub_core.demo.supervisor import ChildDied, descendants

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
PARENT_OF_A_SESSION = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
{SERVER}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _child(tmp_path: Path, name: str, code: str, **settings: float) -> Child:
    port = _free_port()
    return Child(
        name,
        [sys.executable, "-c", code, str(port)],
        tmp_path / f"{name}.log",
        f"http://127.0.0.1:{port}/",
        **settings,
    )  # type: ignore[arg-type]


async def _until(holds: object, *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def test_a_killed_child_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        said: list[str] = []
        children = [_child(tmp_path, "one", SERVER), _child(tmp_path, "two", SERVER)]
        supervisor = Supervisor(children, said.append)
        await supervisor.start()
        try:
            one, two = supervisor.pid("one"), supervisor.pid("two")
            assert one is not None
            os.kill(one, signal.SIGKILL)
            await _until(lambda: supervisor.pid("one") not in (None, one))
            assert supervisor.pid("two") == two
            assert any("one" in line and "starting it again" in line for line in said)
        finally:
            await supervisor.stop()

    asyncio.run(scenario())


def test_a_session_outlives_its_killed_parent_and_ends_with_the_supervisor(tmp_path: Path) -> None:
    async def scenario() -> int:
        supervisor = Supervisor([_child(tmp_path, "hub", PARENT_OF_A_SESSION)], lambda _: None)
        before = set(descendants(os.getpid()))
        await supervisor.start()
        hub = supervisor.pid("hub")
        assert hub is not None
        (session,) = set(descendants(hub)) - before
        try:
            os.kill(hub, signal.SIGKILL)
            await _until(lambda: supervisor.pid("hub") not in (None, hub))
            assert session in descendants(os.getpid()), "the session died with the hub"
        finally:
            await supervisor.stop()
        return session

    session = asyncio.run(scenario())
    assert session not in descendants(os.getpid())


def test_what_ran_before_is_not_the_supervisors_to_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        supervisor = Supervisor([_child(tmp_path, "one", SERVER)], lambda _: None)
        await supervisor.start()
        await supervisor.stop()

    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        try:
            asyncio.run(scenario())
            assert other.poll() is None
        finally:
            other.kill()


def test_a_child_that_exits_at_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(
            [_child(tmp_path, "web service", "raise SystemExit('no such database')")], lambda _: None
        )
        await supervisor.start()

    with pytest.raises(ChildDied, match="no such database") as caught:
        asyncio.run(scenario())
    assert caught.value.name == "web service"


def test_a_child_that_never_answers_is_given_up_and_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        mute = _child(tmp_path, "mute", "import time; time.sleep(600)", ready_timeout_s=0.5)
        await Supervisor([mute], lambda _: None).start()

    before = set(descendants(os.getpid()))
    with pytest.raises(ChildDied, match="no answer"):
        asyncio.run(scenario())
    assert set(descendants(os.getpid())) <= before


def test_a_port_in_use_names_the_port_its_purpose_and_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match="--port") as caught:
            Ports(port - 2).check_free()
    assert caught.value.port == port
    assert caught.value.used_for == "web service"


def test_the_command_line_says_a_port_in_use_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [
            sys.executable,
            "-m",
            "beamhub_core.command",
            "demo",
            "--port",
            port,
            "--state-folder",
            str(tmp_path / "s"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 6
    assert port in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(FolderUnusable, match="--state-folder") as caught:
        prepare(DemoLayout(blocker / "state"), Ports(8000), templates=tmp_path)
    assert caught.value.folder == blocker / "state"


def test_secrets_are_private_and_survive_a_second_preparation(tmp_path: Path) -> None:
    layout = DemoLayout(tmp_path)
    layout.secrets.mkdir()
    write_secrets(layout.secret(name) for name in TOKENS)
    first = {name: layout.secret(name).read_text() for name in TOKENS}
    write_secrets(layout.secret(name) for name in TOKENS)
    assert {name: layout.secret(name).read_text() for name in TOKENS} == first
    assert len(set(first.values())) == len(TOKENS)
    assert {stat.S_IMODE(layout.secret(name).stat().st_mode) for name in TOKENS} == {0o600}


def test_the_demo_configuration_is_valid_and_offers_two_places(tmp_path: Path) -> None:
    layout = DemoLayout(tmp_path)
    layout.config_file.write_text(json.dumps(build_config(layout, Ports(8000), tmp_path)))
    config = read_config(layout.config_file)
    assert [place.pools for place in config.sessions.places] == [("hall-a",), ("hall-b",)]
    assert config.login.providers[0].unsafe_allow_http


def test_the_demo_has_a_gateway_when_asked(tmp_path: Path) -> None:
    layout = DemoLayout(tmp_path)
    content = with_gateway(build_config(layout, Ports(8000), tmp_path), layout, Ports(8000))
    layout.config_file.write_text(json.dumps(content))
    config = read_config(layout.config_file)
    assert config.gateway is not None
    assert config.gateway.session_url == "http://127.0.0.1:8005"
    assert [client.scopes for client in config.web.clients if client.name == "gateway"] == [
        ("plans:read", "usage:write")
    ]


def test_people_keep_their_proposals_when_the_demo_moves_to_other_ports(tmp_path: Path) -> None:
    layout = DemoLayout(tmp_path)
    layout.truth_file.write_text("[]")  # the facility's files are not what this is about
    prepare(layout, Ports(8000), templates=tmp_path)
    members = (layout.user_office / "members.csv").read_text()
    prepare(layout, Ports(9100), templates=tmp_path)
    moved = (layout.user_office / "members.csv").read_text()
    assert moved == members.replace(":8003,", ":9103,")
    assert (
        ":8003" not in (layout.root / "accounts.json").read_text() + (layout.root / "roles.csv").read_text()
    )
