"""The door of a scheduler: how large its cluster is, its dashboards, and its end; for the session's server.

It is opened inside the scheduler by `Client.run_on_scheduler` and takes only connections with the cluster's
own certificate. Bokeh is loaded when somebody asks for a page: a cluster that nobody looks at does not pay
for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from distributed import Scheduler
from distributed.comm.addressing import get_address_host
from distributed.http.routing import RoutingApplication
from distributed.http.statics import routes as static_routes
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import RequestHandler

log = logging.getLogger("distributed.scheduler")

DOOR = "beamhub-door"
PORT = 8789
"""Beside Dask's and the gateway's ports, where a scheduler has a network address of its own."""
LOOPBACK = "127.0.0.1"
LOOPBACKS = (LOOPBACK, "::1")
CLUSTER_VARIABLE = "DASK_GATEWAY_CLUSTER_NAME"
TOLD_S = 10.0


def open_door(certificate: str, key: str, dask_scheduler: Scheduler | None = None) -> tuple[str, int]:
    """Where the door of the scheduler is, opened if it was closed. Runs in the scheduler's event loop.

    Parameters
    ----------
    certificate, key:
        The cluster's own, PEM: the door's, and that which callers must show.
    """
    scheduler: Any = dask_scheduler
    found = scheduler.extensions.get(DOOR)
    if found is None:
        scheduler.extensions[DOOR] = found = Door(scheduler, tls_context(certificate, key, is_server=True))
    return found.host, found.port


def tls_context(certificate: str, key: str, *, is_server: bool) -> ssl.SSLContext:
    """TLS between holders of one certificate: both sides show it, and take no other.

    Raises
    ------
    OSError
        If they are no certificate with its key (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is known, not a name in it
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pair.pem"
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(key + "\n" + certificate)
        context.load_cert_chain(file)
    return context


class Door:
    """An HTTPS server in a scheduler's process."""

    def __init__(self, scheduler: Any, context: ssl.SSLContext) -> None:
        # A scheduler of one process alone names an address of the machine, at which it does not listen.
        is_inside = scheduler.address.startswith("inproc:")
        self.host = LOOPBACK if is_inside else str(get_address_host(scheduler.address))
        pages = _Pages(scheduler)
        self._server = pages.server = HTTPServer(pages, ssl_options=context)
        self.port = self._listen(0 if self.host in LOOPBACKS else PORT)

    def _listen(self, port: int) -> int:
        try:
            sockets = bind_sockets(port, self.host)
        except OSError:
            sockets = bind_sockets(0, self.host)
        self._server.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    def teardown(self) -> None:
        """Take no more connections; a scheduler that closes calls this of its extensions."""
        self._server.stop()


class _Pages(RoutingApplication):
    """Our own routes, and Bokeh's once they were asked for."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._loading: asyncio.Task[bool] | None = None
        self.server: Any = None
        about = {"scheduler": scheduler}
        ours = [(r"/facts", _Facts, about), (r"/stop", _Stop, about), (r"/ready", _Ready, {"pages": self})]
        super().__init__([*ours, *static_routes])  # type: ignore[no-untyped-call]  # no types

    async def load(self) -> bool:
        """Whether there are dashboards; the first call loads them, away from the scheduler's event loop."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(self._load())
        return await asyncio.shield(self._loading)

    async def _load(self) -> bool:
        try:
            module = await asyncio.to_thread(import_module, "distributed.dashboard.scheduler")
        except ImportError:  # Bokeh is an optional dependency
            return False
        module.connect(self, self.server, self._scheduler)
        return True


class _Ready(RequestHandler):
    """`GET /ready`: answers when there are dashboards to ask for; 404 where there are none."""

    def initialize(self, pages: _Pages) -> None:
        self.pages = pages

    async def get(self) -> None:
        if await self.pages.load():
            self.set_status(204)
        else:
            self.set_status(404)
        self.finish()


class _Facts(RequestHandler):
    """`GET /facts`: how large the cluster is and what it does, JSON."""

    def initialize(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def get(self) -> None:
        self.finish(facts_of(self.scheduler))


def facts_of(scheduler: Any) -> dict[str, float]:
    """The size and the work of a cluster, as numbers."""
    workers = list(scheduler.workers.values())
    return {
        "n_workers": len(workers),
        "n_threads": sum(worker.nthreads for worker in workers),
        "memory_bytes": sum(int(worker.memory_limit or 0) for worker in workers),
        "n_tasks_running": sum(len(worker.processing) for worker in workers),
        "age_s": max(0.0, time.time() - scheduler.time_started),
    }


class _Stop(RequestHandler):
    """`POST /stop`: end the cluster, through the gateway where there is one that answers."""

    def initialize(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    async def post(self) -> None:
        self.finish({"stops": True})
        if not (os.environ.get(CLUSTER_VARIABLE) and await _gateway_told()):
            await self.scheduler.close(reason="the session asked for it")


async def _gateway_told() -> bool:
    # Only a scheduler of the gateway's has it loaded already.
    from dask_gateway.scheduler_preload import make_gateway_client

    try:
        await asyncio.wait_for(make_gateway_client().shutdown(), TOLD_S)
    except Exception as error:  # noqa: BLE001 - tornado's share no other base; it ends without the gateway
        log.warning("The gateway was not told of the end: %s", type(error).__name__)
        return False
    return True
