"""A real Jupyter server, a real kernel and the real web service: time, activity, idleness, first cell."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue.session_life import seconds_of
from beamhub_session.activity import ProcessorUse, is_below, read_processes
from beamhub_session.life import INTERVAL_S, LONGEST_PAUSE_S, SHORTEST_PAUSE_S, pause_s
from session.test_session_server import TOKEN, start_server, stop_server
from session.web_of_session import SessionWeb, serve_session

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

pytestmark = pytest.mark.hub

FAST = {"idle_h": 0.0005, "lifetime_h": 8, "max_lifetime_h": 24}
DEADLINE_S = 60.0


@contextmanager
def session_server(stage: Stage, web: SessionWeb | None, **environment: str) -> Iterator[httpx.Client]:
    facts = {"BEAMHUB_SESSION_FILE": str(stage.session_file), "BEAMHUB_TEMPLATES": str(stage.templates)}
    process, url = start_server(stage, facts | (web.environment if web else {}) | environment)
    headers = {"Authorization": f"token {TOKEN}"}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as client:
            yield client
    finally:
        stop_server(process)


def wait_for(what: Callable[[], Any], limit_s: float = DEADLINE_S) -> Any:
    deadline = time.monotonic() + limit_s
    waiter = threading.Event()
    while time.monotonic() < deadline:
        if found := what():
            return found
        waiter.wait(0.1)
    raise AssertionError("it did not come about in time")


def life_of(client: httpx.Client, contact: str) -> dict[str, Any] | None:
    found: dict[str, Any] = client.get("beamhub/life").json()
    return found if found["contact"] == contact else None


def test_a_session_shows_its_time_is_warned_of_idleness_and_extended(stage: Stage, tmp_path: Path) -> None:
    with (
        serve_session(tmp_path / "web", FAST, timedelta(minutes=4)) as web,
        session_server(stage, web) as client,
    ):
        first = wait_for(lambda: life_of(client, "told"))
        assert 200 < first["seconds_left"] <= 240
        assert first["extends_by_s"] > 7 * 3600
        idle = wait_for(lambda: (one := client.get("beamhub/life").json())["idle_stop_in_s"] and one)
        assert idle["idle_stop_in_s"] > 800
        wait_for(lambda: web.row().idle_stop_at)
        kept = client.post("beamhub/life/keep").json()
        assert kept["idle_stop_in_s"] is None
        assert web.row().idle_stop_at is None
        extended = client.post("beamhub/life/extend").json()
        assert extended["seconds_left"] > 7.9 * 3600
        assert abs((web.row().expires_at - web.plan.expires_at).total_seconds()) > 7 * 3600
        refused = client.post("beamhub/life/extend")
        assert refused.status_code == 409
        assert "cannot be extended further" in refused.json()["message"]
        log = (stage.root.parent / "runtime" / "server.log").read_text()
        assert web.environment["JUPYTERHUB_API_TOKEN"] not in log


def test_a_kernel_that_computes_is_never_idle_and_the_first_cell_is_told_once(
    stage: Stage, tmp_path: Path
) -> None:
    from jupyter_client.blocking.client import BlockingKernelClient

    with (
        serve_session(tmp_path / "web", FAST, timedelta(hours=4)) as web,
        session_server(stage, web) as client,
    ):
        kernel = client.post("api/kernels", json={"name": "python3"}).json()["id"]
        (file,) = (stage.root.parent / "runtime").glob(f"kernel-{kernel}.json")
        talk = BlockingKernelClient(connection_file=str(file))
        talk.load_connection_file()
        talk.start_channels(hb=False)  # on a busy machine a heartbeat that is late is no dead kernel
        try:
            talk.kernel_info(reply=True, timeout=60)
            talk.execute("1 / 0", stop_on_error=False)
            talk.get_shell_msg(timeout=30)
            talk.execute("import time; time.sleep(25)")
            seconds = wait_for(lambda: client.post("beamhub/life/keep") and seconds_of(web.row()))
            assert seconds["first_cell"] < DEADLINE_S
            wait_for(lambda: "kernel" in client.post("beamhub/life/keep").json()["busy_with"])
            assert client.get("beamhub/life").json()["idle_stop_in_s"] is None
        finally:
            talk.stop_channels()


def test_without_web_the_server_runs_and_says_that_the_platform_is_silent(
    stage: Stage, tmp_path: Path
) -> None:
    gone = {"BEAMHUB_WEB_URL": "http://127.0.0.1:9", "JUPYTERHUB_API_TOKEN": "t" * 20}
    with session_server(stage, None, **gone) as client:
        view = wait_for(lambda: life_of(client, "offline"))
        assert 3000 < view["seconds_left"] <= 3600  # of the session file
        refused = client.post("beamhub/life/extend")
        assert refused.status_code == 409
        assert "gives no answer" in refused.json()["message"]


def test_an_ended_session_and_strangers_are_told_apart(stage: Stage, tmp_path: Path) -> None:
    with serve_session(tmp_path / "web", FAST, timedelta(hours=1)) as web:
        with session_server(stage, web, JUPYTERHUB_API_TOKEN="another-token-0123456789") as client:
            view = wait_for(
                lambda: (one := client.get("beamhub/life").json())["contact"] == "unknown" and one
            )
            assert view["extends_by_s"] is None
            assert "does not take this server" in client.post("beamhub/life/extend").json()["message"]
            for method, path in (("GET", "life"), ("POST", "life/extend"), ("POST", "life/keep")):
                answer = httpx.request(method, f"{client.base_url}beamhub/{path}", trust_env=False)
                assert answer.status_code in (302, 403)
        assert web.row().idle_stop_at is None


@given(st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_reports_are_no_storm(n_failures: int, chance: float) -> None:
    pause = pause_s(n_failures, chance)
    assert SHORTEST_PAUSE_S < 0.9 * INTERVAL_S <= pause <= 1.1 * LONGEST_PAUSE_S


@given(st.dictionaries(st.integers(1, 12), st.integers(0, 12), max_size=12), st.integers(0, 12))
def test_a_table_of_processes_is_followed_to_its_end(parents: dict[int, int], pid: int) -> None:
    assert is_below(pid, pid, parents)
    assert not is_below(pid, 99, parents)


def test_a_program_that_computes_is_seen_and_one_that_waits_is_not() -> None:
    now = [0.0]
    use = ProcessorUse(root=0, clock=lambda: now[0])
    code = "import sys\nsys.stdin.readline()\nx = 0\nwhile True:\n    x += 1"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        try:
            use.is_busy()
            wait_for(lambda: any(pid == process.pid for pid, _ in read_processes(use.proc, _own())))
            now[0] += 60
            use.is_busy()  # the start of the interpreter falls into this look
            now[0] += 60
            assert not use.is_busy()
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            before = _seconds(process.pid)
            wait_for(lambda: _seconds(process.pid) > before + 0.8)
            now[0] += 6
            assert use.is_busy()
        finally:
            process.kill()


def _own() -> int:
    import os

    return os.getpid()


def _seconds(pid: int) -> float:
    return next((used for (one, _), used in read_processes(Path("/proc"), _own()).items() if one == pid), 0.0)


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"now": 1}', b"x" * 300_000])
def test_an_answer_of_another_shape_is_no_word_from_web(stage: Stage, tmp_path: Path, answer: bytes) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    import asyncio

    from beamhub_core.errors import Unavailable
    from beamhub_core.session_life import SessionReport
    from beamhub_session.web_link import WebLink

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        link = WebLink(f"http://127.0.0.1:{server.server_port}", "t" * 20)
        with pytest.raises(Unavailable, match="web"):
            asyncio.run(link.report(SessionReport(idle_s=1)))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
