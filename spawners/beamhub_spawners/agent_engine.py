"""How an agent speaks to its engine: over the socket, in one version, bounded in time and size."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from beamhub_core.errors import Unavailable
from beamhub_spawners.docker_host import OLDEST_API
from beamhub_spawners.docker_render import engine_is_recursive

MAX_ANSWER = 16_000_000
NEWEST_API = (1, 52)
N_CONNECTIONS = 96


@dataclass(frozen=True, slots=True)
class Answer:
    """An engine's answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, which every answer that we read has as JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unavailable("container", "its answer is no JSON") from None


class Engine:
    """One engine on its socket."""

    def __init__(self, socket: Path, timeout_s: float, stream_s: float) -> None:
        transport = httpx.AsyncHTTPTransport(
            uds=str(socket), limits=httpx.Limits(max_connections=N_CONNECTIONS)
        )
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://engine", timeout=httpx.Timeout(timeout_s, connect=5.0)
        )
        self._stream_timeout = httpx.Timeout(timeout_s, read=stream_s, connect=5.0)
        self._version: dict[str, Any] | None = None

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def version(self) -> dict[str, Any]:
        """What the engine says of itself; asked once, and again after a silence."""
        if self._version is None:
            answer = await self._send("GET", "/version")
            said = answer.json()
            if answer.status != 200 or not isinstance(said, dict):
                raise Unavailable("container", f"HTTP {answer.status}")
            self._version = said
        return self._version

    async def is_recursive(self) -> bool:
        """Whether it makes what lies below a read-only mount read-only, too."""
        return engine_is_recursive(str((await self.version()).get("Version", "")))

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        longer_s: float = 0.0,
    ) -> Answer:
        """The engine's answer, whatever its status, to a request of the agent's own making.

        Raises
        ------
        Unavailable
            When the engine is silent or says more than 16 MB.
        """
        prefix = await self._prefix()
        return await self._send(method, prefix + path, query=query, body=body, longer_s=longer_s)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """The status of an answer and its parts as they come."""
        prefix = await self._prefix()
        request = self._http.build_request(
            method, prefix + path, params=dict(query or {}), timeout=self._stream_timeout
        )
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            self._version = None
            raise Unavailable("container", type(error).__name__) from error
        try:
            yield response.status_code, response.aiter_bytes()
        except httpx.HTTPError as error:
            raise Unavailable("container", type(error).__name__) from error
        finally:
            await response.aclose()

    async def _prefix(self) -> str:
        """The version that the agent speaks: the engine's, no newer than what this was written for."""
        said = str((await self.version()).get("ApiVersion", OLDEST_API)).split(".")
        try:
            major, minor = min((int(said[0]), int(said[1])), NEWEST_API)
        except (ValueError, IndexError):
            raise Unavailable("container", "its version cannot be read") from None
        return f"/v{major}.{minor}"

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        longer_s: float = 0.0,
    ) -> Answer:
        known = self._http.timeout
        read_s = (known.read or 0.0) + longer_s
        timeout = httpx.Timeout(connect=known.connect, read=read_s, write=known.write, pool=known.pool)
        request = self._http.build_request(method, path, params=dict(query or {}), json=body, timeout=timeout)
        try:
            response = await self._http.send(request, stream=True)
            try:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_ANSWER:
                        raise Unavailable("container", "its answer is too long")
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            self._version = None
            raise Unavailable("container", type(error).__name__) from error
        return Answer(response.status_code, b"".join(parts))
