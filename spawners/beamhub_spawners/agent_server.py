"""The agent's HTTPS server: who may call, how much a call may cost, and what is counted and logged."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets

from beamhub_core.config.agent import AgentConfig
from beamhub_core.config.docker_place import TlsPairConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.agent_reply import Reply
from beamhub_spawners.agent_routes import Asked, NotAdmitted, read_request
from beamhub_spawners.host_folders import FOLDERS_S

log = logging.getLogger(__name__)

REASONS = {200: "OK", 201: "Created", 204: "No Content", 304: "Not Modified", 403: "Forbidden"}
CALLS_OF_A_CREATE = 3
"""A create looks at web, image and network before the engine makes it: that many limits together."""
WAIT_FOR_STORAGE = ("create", "folders", "home")


class RequestDesk(Protocol):
    """What answers admissible requests."""

    async def answer(self, asked: Asked, body: bytes) -> Reply:
        """The reply; raises `NotAdmitted`, or `Unavailable` when somebody behind it is silent."""
        ...


class AgentMetrics:
    """What Prometheus reads of an agent; no name of a person, session or path is among the labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "beamhub_agent_requests",
            "Requests by route and what became of them.",
            ("route", "outcome"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "beamhub_agent_request_seconds",
            "Seconds of a request that was admitted.",
            ("route",),
            registry=self.registry,
        )
        self.open = Gauge(
            "beamhub_agent_open_requests", "Requests that are open now.", registry=self.registry
        )
        self.images = Gauge(
            "beamhub_agent_images",
            "Images that are to be present, by state.",
            ("state",),
            registry=self.registry,
        )

    def show_images(self, states: Mapping[str, int]) -> None:
        """Set the number of images in each state."""
        for state, n in states.items():
            self.images.labels(state).set(n)


def server_context(tls: TlsPairConfig) -> ssl.SSLContext:
    """TLS 1.2 or later with a client's certificate of the one authority, or no connection.

    Raises
    ------
    OSError
        If a file is not there or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(tls.ca_file))
    context.load_cert_chain(str(tls.cert_file), str(tls.key_file))
    return context


def common_names(certificate: Any) -> tuple[str, ...]:
    """The common names of a verified certificate, as `ssl` gives it."""
    subject = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    return tuple(value for part in subject for name, value in part if name == "commonName")


class AgentServer:
    """One agent: its HTTPS server before the engine, and its page of metrics on the loopback."""

    def __init__(self, config: AgentConfig, desk: RequestDesk, metrics: AgentMetrics) -> None:
        self._config, self._desk, self.metrics = config, desk, metrics
        limits = config.limits
        self._server = HTTPServer(
            self._take,
            ssl_options=server_context(config.tls),
            max_header_size=limits.header_bytes,
            max_body_size=limits.body_bytes,
            body_timeout=limits.idle_s,
            idle_connection_timeout=limits.idle_s,
            decompress_request=False,
        )
        self._pages = HTTPServer(self._take_metrics, max_body_size=1024, idle_connection_timeout=10)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.metrics_port = 0

    def listen(self) -> None:
        """Open the ports; needs a running loop."""
        sockets = bind_sockets(self._config.listen.port, self._config.listen.host)
        self.port = sockets[0].getsockname()[1]
        self._server.add_sockets(sockets)
        if self._config.metrics_port:
            pages = bind_sockets(self._config.metrics_port, "127.0.0.1")
            self.metrics_port = pages[0].getsockname()[1]
            self._pages.add_sockets(pages)

    async def close(self) -> None:
        """Close ports, connections and what is under way."""
        self._server.stop()
        self._pages.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close_all_connections()
        await self._pages.close_all_connections()

    def _take_metrics(self, request: HTTPServerRequest) -> None:
        is_page = (request.method, request.path) == ("GET", "/metrics")
        text = generate_latest(self.metrics.registry) if is_page else b""
        self._start(_write(request, 200 if is_page else 404, text, "text/plain; version=0.0.4"))

    def _take(self, request: HTTPServerRequest) -> None:
        self._start(self._answer(request))

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: HTTPServerRequest) -> None:
        began, route = time.monotonic(), "none"
        self.metrics.open.inc()
        try:
            self._check_caller(request)
            asked = read_request(request.method or "", request.uri or "")
            route = asked.route
            if len(self._tasks) > self._config.limits.requests:
                raise NotAdmitted(503, "too many requests at once; try later")
            status = await self._serve(request, asked)
            outcome = "answered" if status < 400 else "engine refused"
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)
        except NotAdmitted as refused:
            outcome = "refused"
            _log_refusal(request, route, refused)
            await _refuse(request, refused.status, str(refused))
        except (Unavailable, TimeoutError) as error:
            outcome = "unavailable"
            log.warning("no answer for %s: %s", route, error, extra={"route": route})
            await _refuse(request, 503, "beamhub agent: the engine or the web service gives no answer")
        except StreamClosedError:
            outcome = "left"
        except Exception:
            outcome = "failed"  # the outermost layer: one request's fault is not the next one's
            log.exception("a request failed", extra={"route": route})
            await _refuse(request, 500, "beamhub agent: the request failed; its log says why")
        finally:
            self.metrics.open.dec()
        self.metrics.requests.labels(route, outcome).inc()

    def _check_caller(self, request: HTTPServerRequest) -> None:
        names = common_names(request.get_ssl_certificate())
        if not set(names) & set(self._config.listen.accepted_subjects):
            raise NotAdmitted(403, "this certificate may not call")

    async def _serve(self, request: HTTPServerRequest, asked: Asked) -> int:
        limits = self._config.limits
        limit_s = CALLS_OF_A_CREATE * limits.engine_s + float(asked.query.get("t", 0))
        if asked.route in WAIT_FOR_STORAGE:
            limit_s += FOLDERS_S
        async with asyncio.timeout(limits.stream_s if asked.is_stream else limit_s):
            reply = await self._desk.answer(asked, request.body)
            if reply.stream is not None:
                return await _pass_stream(request, reply, reply.stream)
        kind = "application/json" if reply.is_json else "text/plain"
        await _write(request, reply.status, reply.body, kind)
        return reply.status


async def _pass_stream(
    request: HTTPServerRequest, reply: Reply, stream: AbstractAsyncContextManager[Any]
) -> int:
    """Pass an engine's stream on until either side ends it; a stream cut short ends the connection."""
    kind = "application/json" if reply.is_json else "application/octet-stream"
    connection = _connection(request)
    async with stream as (status, parts):
        line = ResponseStartLine("HTTP/1.1", status, REASONS.get(status, "OK"))
        await connection.write_headers(line, HTTPHeaders({"Content-Type": kind}))
        try:
            async with _ends_with_the_caller(connection):
                async for part in parts:
                    await connection.write(part)
        except BaseException:
            if not connection.stream.closed():
                connection.stream.close()  # not finished: the caller must not take it for the whole
            raise
        connection.finish()
        return int(status)


@asynccontextmanager
async def _ends_with_the_caller(connection: Any) -> AsyncIterator[None]:
    """Cancel the block when the caller goes away: a silent stream would keep its connection otherwise."""
    task = asyncio.current_task()
    state = {"inside": True, "left": False}

    def left() -> None:
        if state["inside"] and task is not None:
            state["left"] = True
            task.cancel()

    connection.set_close_callback(left)
    try:
        yield
    except asyncio.CancelledError:
        if not state["left"]:
            raise
        if task is not None:
            task.uncancel()
        raise StreamClosedError from None
    finally:
        state["inside"] = False


def _connection(request: HTTPServerRequest) -> Any:
    return request.connection


async def _write(request: HTTPServerRequest, status: int, body: bytes, kind: str) -> None:
    has_body = status not in (204, 304)
    headers = HTTPHeaders({"Content-Type": kind, "X-Content-Type-Options": "nosniff"})
    if has_body:
        headers["Content-Length"] = str(len(body))
    connection = _connection(request)
    line = ResponseStartLine("HTTP/1.1", status, REASONS.get(status, "Refused" if status >= 400 else "OK"))
    try:
        await connection.write_headers(line, headers, body if has_body else None)
    except StreamClosedError:
        return
    connection.finish()


async def _refuse(request: HTTPServerRequest, status: int, message: str) -> None:
    await _write(request, status, json.dumps({"message": message}).encode(), "application/json")


def _log_refusal(request: HTTPServerRequest, route: str, refused: NotAdmitted) -> None:
    facts = {
        "status": refused.status,
        "route": route,
        "method": ascii(request.method)[:20],
        "path": ascii((request.uri or "").partition("?")[0])[:200],
        "caller": common_names(request.get_ssl_certificate())[:1],
        "address": request.remote_ip,
    }
    level = logging.INFO if refused.status == 404 else logging.WARNING  # the hub asks whether a thing is gone
    log.log(level, "refused: %s %s", refused.reason, json.dumps(facts), extra=facts)
