"""A user office over HTTP: it says what CSV files in a folder say, in the documented shape, or misbehaves."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TABLES = ("proposals", "members", "staff")
TOKEN = "office-token-0123456789"

Misbehaviour = str
"""'' for none, or what stands in `_MISBEHAVIOURS` below."""


class OfficeServer(ThreadingHTTPServer):
    """Serves `proposals.csv`, `members.csv` and `staff.csv` of a folder, read anew for every request."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, folder: Path, page_size: int = 1_000) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.page_size = folder, page_size
        self.misbehaviour: Misbehaviour = ""
        self.mangle: Callable[[dict[str, Any]], Any] = lambda page: page
        self.token: str | None = None
        self.gives_etag = True
        self.statuses: list[int] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/office"

    def state(self) -> tuple[dict[str, list[dict[str, Any]]], str]:
        """The rows of all tables, and the name of this state."""
        tables: dict[str, list[dict[str, Any]]] = {}
        digest = hashlib.sha256()
        for table in TABLES:
            path = self.folder / f"{table}.csv"
            text = path.read_bytes().decode() if path.exists() else ""
            digest.update(f"{len(text)}:{text}".encode())
            tables[table] = list(csv.DictReader(io.StringIO(text, newline="")))
        return tables, digest.hexdigest()[:16]

    def page(self, number: int) -> dict[str, Any]:
        """One page in the documented shape; pages go through the tables one after the other."""
        tables, state = self.state()
        rows = [(table, row) for table in TABLES for row in tables[table]]
        first = (number - 1) * self.page_size
        here = rows[first : first + self.page_size]
        page: dict[str, Any] = {
            "version": "1.0",
            "state": state,
            "page": number,
            "pages": max(1, -(-len(rows) // self.page_size)),
            "totals": {table: len(tables[table]) for table in TABLES},
        }
        return page | {table: [row for name, row in here if name == table] for table in TABLES}


class _Handler(BaseHTTPRequestHandler):
    """One request; connections are not kept, so that no thread waits for a next one."""

    protocol_version = "HTTP/1.1"
    server: OfficeServer

    def do_GET(self) -> None:
        self.close_connection = True
        with suppress(ConnectionError):  # a client may leave, and some are meant to
            misbehave = _MISBEHAVIOURS.get(self.server.misbehaviour)
            if misbehave is not None:
                misbehave(self)
            elif self.server.token is not None and not self._is_let_in():
                self._answer(401, b"{}")
            else:
                self._say()

    def _is_let_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def _say(self) -> None:
        split = urlsplit(self.path)
        assert split.path == "/office/v1/state"
        number = int(parse_qs(split.query)["page"][0])
        page = self.server.page(number)
        etag = f'"{page["state"]}"' if self.server.gives_etag else None
        if number == 1 and etag is not None and self.headers.get("If-None-Match") == etag:
            self._answer(304, b"", ETag=etag)
            return
        mangled = self.server.mangle(page)
        body = mangled if isinstance(mangled, bytes) else json.dumps(mangled).encode()
        self._answer(200, body, **({"ETag": etag} if etag and number == 1 else {}))

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self._head(status, {"Content-Length": str(len(body))} | headers)
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.server.statuses.append(status)
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Connection": "close"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def cut(self) -> None:
        """Half of an honest page, with the length of the whole."""
        body = json.dumps(self.server.page(1)).encode()
        self._head(200, {"Content-Length": str(len(body))})
        self.wfile.write(body[: len(body) // 2])

    def cut_unnoticed(self) -> None:
        """Half of an honest page, and nothing says how long it is."""
        body = json.dumps(self.server.page(1)).encode()
        self._head(200, {})
        self.wfile.write(body[: len(body) // 2])

    def drip(self) -> None:
        """A byte now and then, never slower than a client that waits for one byte minds."""
        self._head(200, {"Content-Length": "1000000"})
        self._drip(b" ")

    def drip_head(self) -> None:
        """Headers without an end."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        self._drip(b"x")

    def silence(self) -> None:
        """Nothing at all."""
        self.server.stopping.wait(30)

    def _drip(self, byte: bytes) -> None:
        while not self.server.stopping.wait(0.02):
            self.wfile.write(byte)

    def endless(self) -> None:
        """More than anybody asked for, in pieces."""
        self._head(200, {})
        while not self.server.stopping.is_set():
            self.wfile.write(b" " * 1_000_000)

    def redirect(self) -> None:
        """Elsewhere, where the honest answer is."""
        self._answer(302, b"", Location=f"{self.server.url}/v1/state?page=1&moved=1")

    def unasked(self) -> None:
        """Not modified, whoever asks."""
        self._answer(304, b"")

    def other_type(self) -> None:
        """A page for people, as a login page in between is."""
        self._answer(200, json.dumps(self.server.page(1)).encode(), **{"Content-Type": "text/html"})

    def compressed(self) -> None:
        """An encoding that nobody asked for."""
        self._answer(200, b"\x1f\x8b", **{"Content-Encoding": "gzip"})

    def failing(self) -> None:
        """An error, with the caller's token in it."""
        self._answer(500, f"no: {self.headers.get('Authorization')}".encode())

    def no_http(self) -> None:
        """The caller's token in place of a status line."""
        self.wfile.write(f"{self.headers.get('Authorization')}\r\n\r\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at `statuses`."""


_MISBEHAVIOURS: dict[str, Callable[[_Handler], None]] = {
    name: getattr(_Handler, name)
    for name in (
        "cut",
        "cut_unnoticed",
        "drip",
        "drip_head",
        "silence",
        "endless",
        "redirect",
        "unasked",
        "other_type",
        "compressed",
        "failing",
        "no_http",
    )
}


@contextmanager
def serving(folder: Path, page_size: int = 1_000) -> Iterator[OfficeServer]:
    """An office that listens, and its thread."""
    server = OfficeServer(folder, page_size)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
