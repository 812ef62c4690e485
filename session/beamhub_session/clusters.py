"""The clusters of this session: where their doors are, how they are, and which pages may be asked for.

Nothing in a request chooses a host: a cluster is named by its id, and its door stands in a file that the
session's own notebook wrote. The other side has to show the cluster's certificate before it is asked.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from beamhub_core.cluster_record import ClusterRecord, read_records
from beamhub_core.errors import BeamhubError
from beamhub_core.word import Word

CONNECT_S, ANSWER_S, LOAD_S, FACTS_S = 3.0, 30.0, 60.0, 3.0
MAX_PAGE_BYTES = 16 * 1024**2
_PAGE = re.compile(r"(?:status|workers|tasks|system|profile|graph|groups|hardware|individual-[a-z-]{1,60})")
_STATIC = re.compile(r"statics?(?:/[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,80}){1,6}")
_VERSION = re.compile(r"v=[0-9a-f]{1,128}")


class ClusterGone(BeamhubError):
    """No cluster of this session has this id, or its scheduler does not answer."""

    exit_code = 3

    def __init__(self, cluster: str) -> None:
        super().__init__(cluster)
        self.cluster = cluster

    def __str__(self) -> str:
        return "This cluster is not there any more, or does not answer now."


class ClusterNow(Word):
    """What a scheduler says of its cluster."""

    n_workers: int = Field(ge=0, le=10**6)
    n_threads: int = Field(ge=0, le=10**7)
    memory_bytes: int = Field(ge=0, le=10**18)
    n_tasks_running: int = Field(ge=0, le=10**12)
    age_s: float = Field(ge=0, le=1e9)


@dataclass(frozen=True, slots=True)
class SeenCluster:
    """A cluster of this session; `now` is None for one that does not answer."""

    record: ClusterRecord
    now: ClusterNow | None


def is_page(path: str) -> bool:
    """Whether a path is a page of the dashboards. Pure, as the next two."""
    return _PAGE.fullmatch(path) is not None


def is_static(path: str) -> bool:
    """Whether a path is a file that the pages are made with."""
    return _STATIC.fullmatch(path) is not None


def is_version(query: str) -> bool:
    """Whether a query says which version of a file is meant, and nothing else."""
    return not query or _VERSION.fullmatch(query) is not None


class ClusterDoors:
    """The doors of one session's clusters; its methods belong to the server's event loop."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._ready: set[str] = set()

    def records(self) -> tuple[ClusterRecord, ...]:
        """What the session's notebooks said of their clusters."""
        return read_records(self._folder) if self._folder is not None else ()

    async def seen(self) -> tuple[SeenCluster, ...]:
        """Every cluster with what its scheduler says now."""
        records = self.records()
        return tuple(await asyncio.gather(*(self._see(record) for record in records)))

    async def _see(self, record: ClusterRecord) -> SeenCluster:
        try:
            answer = await self._ask(record, "facts", timeout_s=FACTS_S)
            return SeenCluster(record, ClusterNow.model_validate_json(answer.body))
        except (ClusterGone, ValidationError):
            return SeenCluster(record, None)

    def find(self, cluster: str) -> ClusterRecord:
        """The record of a cluster.

        Raises
        ------
        ClusterGone
        """
        found = next((record for record in self.records() if record.id == cluster), None)
        if found is None:
            raise ClusterGone(cluster)
        return found

    async def page(self, cluster: str, path: str, query: str) -> HTTPResponse:
        """A page or a file of the dashboards; its status is the scheduler's.

        Raises
        ------
        ClusterGone
        """
        record = self.find(cluster)
        await self.make_ready(record)
        return await self._ask(record, path + (f"?{query}" if query else ""))

    async def make_ready(self, record: ClusterRecord) -> None:
        """Have the scheduler load its pages, once."""
        if record.id not in self._ready:
            answer = await self._ask(record, "ready", timeout_s=LOAD_S)
            if answer.code == 204:
                self._ready.add(record.id)

    async def stop(self, cluster: str) -> None:
        """Have a scheduler end its cluster.

        Raises
        ------
        ClusterGone
        """
        await self._ask(self.find(cluster), "stop", method="POST")

    def request(self, record: ClusterRecord, scheme: str, path: str) -> HTTPRequest:
        """A request to a door, which carries nothing of the browser's.

        Raises
        ------
        ClusterGone
            If the record holds no certificate with its key.
        """
        host = f"[{record.host}]" if ":" in record.host else record.host
        return HTTPRequest(
            f"{scheme}://{host}:{record.port}/{path}",
            connect_timeout=CONNECT_S,
            follow_redirects=False,
            ssl_options=self._context(record),
        )

    async def _ask(
        self, record: ClusterRecord, path: str, *, method: str = "GET", timeout_s: float = ANSWER_S
    ) -> HTTPResponse:
        request = self.request(record, "https", path)
        request.method, request.request_timeout = method, timeout_s
        if method == "POST":
            request.body = b""
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_PAGE_BYTES)
        try:
            return await client.fetch(request, raise_error=False)
        except (OSError, HTTPClientError, ValueError):
            raise ClusterGone(record.id) from None
        finally:
            client.close()

    def _context(self, record: ClusterRecord) -> ssl.SSLContext:
        if record.id not in self._contexts:
            try:
                self._contexts[record.id] = client_context(record.certificate, record.key)
            except (OSError, ValueError):
                raise ClusterGone(record.id) from None
        return self._contexts[record.id]


def client_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS that shows a cluster's certificate, and takes nobody who does not show the same.

    Raises
    ------
    OSError
        If they are no certificate with its key (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is known, not a name in it
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    with tempfile.TemporaryDirectory() as folder:  # its mode is its owner's only
        file = Path(folder) / "pair.pem"
        file.touch(mode=0o600)
        file.write_text(f"{key}\n{certificate}", encoding="ascii")
        context.load_cert_chain(file)
    return context
