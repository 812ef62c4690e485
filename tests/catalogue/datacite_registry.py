"""A registry of DOIs over HTTP that keeps DataCite's rules of states, in memory.

Source: DataCite REST API guide, 'DOI states': a draft needs no metadata; `publish` needs all mandatory ones
and a URL; what was findable is never a draft again and cannot be deleted; `hide` makes it registered.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from datacite import schema45

USER, PASSWORD, PREFIX = "BL.TEST", "a-password-of-the-test", "10.12345"
EVENTS = {"publish": "findable", "register": "registered", "hide": "registered"}


@dataclass
class Registry:
    """What is registered: attributes by DOI, each with its state; `refusal` and `broken` make it
    answer 422 and 500."""

    url: str = ""
    dois: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusal: str = ""
    broken: bool = False
    n_writes: int = 0

    def write(self, doi: str, attributes: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the attributes, or errors, that answer a write."""
        if self.refusal:
            return 422, {"errors": [{"source": "doi", "title": self.refusal}]}
        event = attributes.pop("event", None)
        known = self.dois.get(doi, {"state": "draft"})
        wanted = {**known, **attributes}
        if event == "publish":
            told = {name: value for name, value in wanted.items() if name not in ("state", "url")}
            problems = [error.message for error in schema45.validator.iter_errors(told)]
            if problems or not wanted.get("url"):
                return 422, {"errors": [{"source": "metadata", "title": text[:200]} for text in problems]}
        self.n_writes += 1
        self.dois[doi] = wanted | {"state": EVENTS.get(event or "", known["state"])}
        return 200, self.dois[doi]


class _Handler(BaseHTTPRequestHandler):
    registry: Registry

    def do_GET(self) -> None:
        found = self.registry.dois.get(self._doi())
        self._answer(200 if found else 404, found or {"errors": [{"title": "not there"}]})

    def do_POST(self) -> None:
        attributes = self._body()
        doi = attributes.get("doi", "")
        taken = doi in self.registry.dois
        status, answer = (
            (422, {"errors": [{"title": "taken"}]}) if taken else self.registry.write(doi, attributes)
        )
        self._answer(201 if status == 200 else status, answer)

    def do_PUT(self) -> None:
        self._answer(*self.registry.write(self._doi(), self._body()))

    def _doi(self) -> str:
        return self.path.removeprefix("/dois/")

    def _body(self) -> dict[str, Any]:
        raw = self.rfile.read(int(self.headers["content-length"]))
        attributes: dict[str, Any] = json.loads(raw)["data"]["attributes"]
        return attributes

    def _answer(self, status: int, attributes: dict[str, Any]) -> None:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers["authorization"] != f"Basic {expected}":
            status, attributes = 401, {"errors": [{"title": "Bad credentials."}]}
        if self.registry.broken:
            status, attributes = 500, {"errors": []}
        errors = "errors" in attributes
        body = (
            attributes if errors else {"data": {"id": self._doi(), "attributes": {"url": "", **attributes}}}
        )
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/vnd.api+json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@contextmanager
def running_registry() -> Iterator[Registry]:
    """The registry on a port of its own."""
    registry = Registry()
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
