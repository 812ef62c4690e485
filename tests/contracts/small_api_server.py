"""A small API server of the tests' own: lists and watches of one kind, with its faults at command.

It keeps positions, pages, bookmarks and a history that can be forgotten, as the real one does; it knows no
other kinds, rights or fields. What it cannot prove runs on a real cluster (`test_kubernetes_watch.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
from aiohttp import web

Fault = Literal["none", "mute", "500", "cut", "garbage"]
HOST = "127.0.0.1"


@dataclass
class SmallApiServer:
    """Objects by name, each with the position of its last change; `fault` may be set at any time."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    fault: Fault = "none"
    n_lists: int = 0
    n_watches: int = 0
    _position: int = 1
    _history: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    _forgotten: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _url: str = ""

    def put(self, name: str, value: int) -> int:
        """Add or change an object; returns its position."""
        kind = "MODIFIED" if name in self.objects else "ADDED"
        return self._happened(kind, {"metadata": {"name": name}, "value": value})

    def drop(self, name: str) -> None:
        """Delete an object, if it is there."""
        if name in self.objects:
            self._happened("DELETED", {"metadata": {"name": name}})

    def forget(self) -> None:
        """Forget what happened: positions before now are gone (410), and open streams are told so."""
        self._forgotten = self._position + 1
        self._history.clear()
        self._happened("FORGOTTEN", {})

    def cut(self) -> None:
        """End all open streams within a line."""
        self._happened("CUT", {})

    def _happened(self, kind: str, raw: dict[str, Any]) -> int:
        self._position += 1
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            raw = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self._position)}}
            name = raw["metadata"]["name"]
            self.objects.pop(name, None)
            if kind != "DELETED":
                self.objects[name] = raw
        self._history.append((self._position, kind, raw))
        news, self._news = self._news, asyncio.Event()
        news.set()
        return self._position

    # -- as the client sees it ------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A list or a watch."""
        if self.fault == "mute":
            await asyncio.sleep(60)
        if self.fault == "500":
            return web.json_response({"kind": "Status", "code": 500}, status=500)
        if self.fault == "cut" and request.transport is not None:
            request.transport.abort()
        if self.fault == "garbage":
            return web.Response(text="<html>")
        if request.query.get("watch") == "true":
            return await self._watch(request)
        self.n_lists += 1
        begin, limit = int(request.query.get("continue", 0)), int(request.query["limit"])
        names = sorted(self.objects)
        page = [self.objects[name] for name in names[begin : begin + limit]]
        meta = {"resourceVersion": str(self._position)}
        if begin + limit < len(names):
            meta["continue"] = str(begin + limit)
        return web.json_response({"metadata": meta, "items": page})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.n_watches += 1
        position = int(request.query["resourceVersion"])
        if position < self._forgotten:
            return web.json_response({"kind": "Status", "code": 410}, status=410)
        stream = web.StreamResponse()
        await stream.prepare(request)
        with suppress(ConnectionResetError):
            await self._stream(request, stream, position)
        return stream

    async def _stream(self, request: web.Request, stream: web.StreamResponse, position: int) -> None:
        begun_at = self._position
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                while True:
                    news = self._news
                    if position < self._forgotten:
                        await stream.write(b'{"type": "ERROR", "object": {"kind": "Status", "code": 410}}\n')
                        return
                    for at, kind, raw in list(self._history):
                        if at > position:
                            position = at
                            if kind == "CUT" and at <= begun_at:
                                continue  # that was another stream's
                            if kind == "CUT":
                                await stream.write(b'{"type": "MODIF')
                                _abort(request)
                                return
                            await stream.write(json.dumps({"type": kind, "object": raw}).encode() + b"\n")
                    await news.wait()
                    while self.fault == "mute":
                        await asyncio.sleep(0.05)
        except TimeoutError:
            meta = {"resourceVersion": str(position)}
            await stream.write(
                json.dumps({"type": "BOOKMARK", "object": {"metadata": meta}}).encode() + b"\n"
            )

    async def read(
        self, query: Mapping[str, Any], limit: aiohttp.ClientTimeout, session: aiohttp.ClientSession
    ) -> aiohttp.ClientResponse:
        """The list call of a client that speaks to this server."""
        return await session.get(self._url, params=dict(query), timeout=limit)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@asynccontextmanager
async def small_api_server() -> AsyncIterator[tuple[SmallApiServer, Any]]:
    """A server that answers until the block ends, and a list call for it."""
    server = SmallApiServer()
    app = web.Application()
    app.router.add_get("/things", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    port = runner.addresses[0][1]
    server._url = f"http://{HOST}:{port}/things"
    async with aiohttp.ClientSession() as session:

        async def read(query: Mapping[str, Any], limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
            return await server.read(query, limit, session)

        yield server, read
    server.fault = "none"
    await runner.cleanup()
