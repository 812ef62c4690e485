"""The first process of a cluster's container: it fetches what it may, and leaves it for its own user only."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from beamhub_spawners import dask_start
from beamhub_spawners.dask_start import fetch_pair, write_files

PAIR = {"certificate": "the certificate", "key": "the key"}


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[int, Any]]]]:
    """A server whose answers the test puts into a list; the last one is given again."""
    answers: list[tuple[int, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            is_own = self.headers["Authorization"] == "token secret"
            is_pair = self.path == "/api/v1/clusters/c1/pair"
            status, said = answers.pop(0) if len(answers) > 1 else answers[0]
            status = status if is_own and is_pair else 401
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api", answers
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_gateway_that_comes_back_is_asked_again(gateway: tuple[str, list[tuple[int, Any]]]) -> None:
    url, answers = gateway
    answers[:] = [(502, {}), (503, {}), (200, PAIR)]
    assert fetch_pair(url, "c1", "secret") == {"dask.crt": "the certificate", "dask.pem": "the key"}


def test_a_refusal_is_not_repeated(gateway: tuple[str, list[tuple[int, Any]]]) -> None:
    url, answers = gateway
    answers[:] = [(200, PAIR)]
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        fetch_pair(url, "c1", "another")
    refused.value.close()


@pytest.mark.parametrize("said", [{}, [], {"certificate": "x"}, None])
def test_an_answer_of_another_shape_is_no_pair(gateway: tuple[str, list[tuple[int, Any]]], said: Any) -> None:
    url, answers = gateway
    answers[:] = [(200, said)]
    with pytest.raises(ValueError, match="has no certificate"):
        fetch_pair(url, "c1", "secret")


def test_files_are_their_owners_alone_and_follow_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_files(folder, {"dask.pem": "the key"})
    assert (folder / "dask.pem").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="token"):
        write_files(folder, {"token": "secret"})
    assert not (tmp_path / "elsewhere").exists()


def test_only_parts_of_clusters_are_executed() -> None:
    command = [sys.executable, "-m", "beamhub_spawners.dask_start", "http.server"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == dask_start.EXIT_NOT_STARTED
    assert "'http.server' is no part of a cluster" in done.stderr
