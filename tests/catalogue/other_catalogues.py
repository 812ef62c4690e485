"""Stand-ins of other catalogues over HTTP, each by the published schema of what it stands for.

- SciCat: backend 4.x OpenAPI, `datasets` with `filter` (`where`, `limits`, `fields`) for v4; catamel's
  LoopBack 3 filters for v3. What is written is checked by the models of the official client (pyscicat).
- ICAT: icat.server 6.0 REST interface (`session`, `entityManager`), schema 6.0; it understands the three
  forms of query that the adapter asks, by their text, and refuses all others.
- myMdC: routes and fields of metadata_client 4.2.2 (`runs/runs_by_proposal`).
- beamhub: the PaNOSC search API (`where pid gt`, `order`, `limit`, `include`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PASSWORD = "letmein-0123456789"
SESSION = "5f4dcc3b-session"


@dataclass
class Known:
    """A dataset of another catalogue, in no schema."""

    number: int
    proposal: str = "MA-2"
    title: str = "Electrode"
    updated: str = "2026-01-01T00:00:00.000Z"
    is_open: bool = True
    folder: str = "/elsewhere"
    facts: dict[str, Any] = field(default_factory=dict)


class CatalogueServer(ThreadingHTTPServer):
    """Serves datasets in the form of one kind of catalogue."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, kind: str, version: str = "v4") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kind, self.version = kind, version
        self.known: dict[int, Known] = {}
        self.fails_after: int | None = None
        self.n_requests = 0
        self.written: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, *datasets: Known) -> None:
        """Make or replace datasets."""
        self.known |= {one.number: one for one in datasets}

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """The answer to a GET; None: there is no such thing."""
        if self.kind == "scicat":
            return self._scicat(path, query)
        if self.kind == "icat":
            return self._icat(query) if path == "/icat/entityManager" else None
        if self.kind == "mymdc":
            return self._mymdc(query) if path == "/api/runs/runs_by_proposal" else None
        return self._panosc(query) if path == "/api/Datasets" else None

    def _scicat(self, path: str, query: dict[str, str]) -> Any:
        is_v3 = self.version == "v3"
        if path.lower() == "/instruments":
            return [{"pid": "i-1", "name": "bl09"}]
        if path != ("/Datasets" if is_v3 else "/datasets"):
            return None
        told = json.loads(query["filter"])
        limits = told if is_v3 else told["limits"]
        key = re.split("[ :]", limits["order"])[0]
        since = told["where"].get("updatedAt", {}).get("gte" if is_v3 else "$gte", "")
        rows = [scicat_dataset(one, is_v3=is_v3) for one in self.known.values() if one.updated >= since]
        rows.sort(key=lambda row: (row[key], row["pid"]))
        return rows[limits["skip"] : limits["skip"] + limits["limit"]]

    def _icat(self, query: dict[str, str]) -> Any:
        if query.get("sessionId") != SESSION:
            return None
        asked = query["query"]
        rows = sorted(self.known.values(), key=lambda one: (one.updated, one.number))
        limit = int(match[1]) if (match := re.search(r"LIMIT 0, (\d+)", asked)) else 10_000
        if match := re.fullmatch(
            r"SELECT d\.id FROM Dataset d WHERE d\.id > (\d+) ORDER BY d\.id LIMIT .*", asked
        ):
            return sorted(n for n in self.known if n > int(match[1]))[:limit]
        if re.fullmatch(
            r"SELECT [it]\.id FROM (Investigation i|DatasetType t) WHERE [it]\.name = '[\w-]+'", asked
        ):
            return [7]
        where = r"WHERE d\.modTime > \{ts (.+?)\} OR \(.* AND d\.id > (\d+)\) "
        match = re.fullmatch(f"SELECT d FROM Dataset d ({where})?ORDER BY .*", asked)  # noqa: S608  # a pattern
        if match is None:
            return None
        if match[1]:
            place = match[2].replace(" ", "T") + "Z", int(match[3])
            rows = [one for one in rows if (one.updated, one.number) > place]
        return [{"Dataset": icat_dataset(one)} for one in rows[:limit]]

    def _mymdc(self, query: dict[str, str]) -> Any:
        size, page = int(query["page_size"]), int(query["page"])
        rows = [one for one in self.known.values() if one.proposal == query["proposal_number"]]
        return [mymdc_run(one) for one in rows[(page - 1) * size : page * size]]

    def _panosc(self, query: dict[str, str]) -> Any:
        told = json.loads(query["filter"])
        after = told.get("where", {}).get("pid", {}).get("gt", "")
        items = sorted((panosc_dataset(one) for one in self.known.values()), key=lambda item: item["pid"])
        return [item for item in items if item["pid"] > after][: told["limit"]]


def scicat_dataset(one: Known, *, is_v3: bool) -> dict[str, Any]:
    """A dataset as SciCat tells it."""
    proposal = {"proposalId": one.proposal} if is_v3 else {"proposalIds": [one.proposal]}
    instrument = {"instrumentId": "i-1"} if is_v3 else {"instrumentIds": ["i-1"]}
    return {
        "pid": f"20.500.1/{one.number}",
        "type": "raw",
        "datasetName": one.title,
        "owner": "Ines Ferreira",
        "ownerEmail": "ines@example.org",
        "sourceFolder": one.folder,
        "creationTime": "2025-10-07T07:00:00.000Z",
        "size": 1000,
        "isPublished": one.is_open,
        "updatedAt": one.updated,
        "techniques": [{"pid": "http://purl.org/pan-science/PaNET/PaNET01101", "name": "powder"}],
        "scientificMetadata": {"temperature": {"value": 20, "unit": "celsius"}, "mode": "fast"},
        **proposal,
        **instrument,
        **one.facts,
    }


def icat_dataset(one: Known) -> dict[str, Any]:
    """A dataset as ICAT tells it."""
    release = "2020-01-01T00:00:00.000Z" if one.is_open else None
    kind = {"name": "temperature", "units": "celsius", "valueType": "NUMERIC"}
    return {
        "id": one.number,
        "name": one.title,
        "modTime": one.updated,
        "startDate": "2025-10-07T07:00:00.000Z",
        "location": one.folder,
        "fileSize": 1000,
        "investigation": {
            "name": one.proposal,
            "releaseDate": release,
            "investigationInstruments": [{"instrument": {"name": "bl09"}}],
        },
        "parameters": [{"numericValue": 20.0, "type": kind}],
        "sample": {"name": "Si"},
        **one.facts,
    }


def mymdc_run(one: Known) -> dict[str, Any]:
    """A run as myMdC tells it."""
    return {
        "id": one.number,
        "run_number": one.number,
        "run_alias": one.title,
        "begin_at": "2025-10-07T09:00:00.000+02:00",
        "end_at": None,
        "size": 1000,
        "flg_available": True,
        **one.facts,
    }


def panosc_dataset(one: Known) -> dict[str, Any]:
    """A dataset as the search API tells it, everything included."""
    return {
        "pid": f"other:{one.number:04d}",
        "title": one.title,
        "isPublic": one.is_open,
        "creationDate": "2025-10-07T07:00:00.000Z",
        "size": 1000,
        "documents": [{"pid": one.proposal, "type": "proposal", "title": "T", "isPublic": one.is_open}],
        "parameters": [{"id": "1", "name": "temperature", "value": 20, "unit": "celsius"}],
        "techniques": [{"pid": "x", "name": "powder", "panetId": "PaNET01101"}],
        **one.facts,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CatalogueServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.n_requests += 1
        limit = self.server.fails_after
        if limit is not None and self.server.n_requests > limit:
            self._send(503, {})
            return
        answer = self.server.answer(parts.path, query)
        self._send(404 if answer is None else 200, answer)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/icat/session":
            told = json.loads(parse_qs(raw)["json"][0])
            right = {"username": "reader"} in told["credentials"] and {"password": PASSWORD} in told[
                "credentials"
            ]
            self._send(200 if right else 403, {"sessionId": SESSION})
        elif self.path == "/icat/entityManager":
            self.server.written += json.loads(parse_qs(raw)["entities"][0])
            self._send(200, [4711])
        else:
            self.server.written.append(json.loads(raw))
            self._send(201, {"pid": "20.500.1/new"})

    def _send(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running_catalogue(kind: str, version: str = "v4") -> Iterator[CatalogueServer]:
    """A stand-in that listens, and has ended afterwards."""
    server = CatalogueServer(kind, version)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
