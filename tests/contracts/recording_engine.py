"""A socket that answers as an engine would and writes down every request that reached it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41"}


@dataclass
class Recorded:
    """One request as it reached the socket."""

    method: str
    path: str
    body: Any


@dataclass
class RecordingEngine:
    """What the socket answers, and what it was asked.

    `answers` maps a method and a path without version and query to a status and a JSON value; what is not
    there is 404. It makes nothing: it proves what an agent passes on, not what an engine would do with it.
    """

    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    asked: list[Recorded] = field(default_factory=list)

    def changes(self) -> list[Recorded]:
        """The requests that would change something."""
        return [one for one in self.asked if one.method != "GET"]


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = False


@contextmanager
def recording_engine(socket_file: Path) -> Iterator[RecordingEngine]:
    """An engine's socket that records, until the block ends."""
    engine = RecordingEngine()
    engine.answers["GET", "/version"] = 200, VERSION

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5  # a kept connection ends with the test

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def address_string(self) -> str:
            return "socket"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            path = self.path.partition("?")[0]
            for version in ("/v1.41", "/v1.44"):
                path = path.removeprefix(version)
            engine.asked.append(Recorded(self.command, self.path, json.loads(body) if body else None))
            status, value = engine.answers.get((self.command, path), (404, {"message": "not here"}))
            text = b"" if status == 204 else json.dumps(value).encode()
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(text)))
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = do_PATCH = _answer  # noqa: N815 - the base's names

    server = _Server(str(socket_file), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="recording-engine"
    )
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
