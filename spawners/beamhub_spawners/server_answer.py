"""Until a server that boots answers HTTP: asked again and again, watched for its end, bounded in time."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Protocol

import httpx

from beamhub_spawners.refusal import StartFailed

PROBE_INTERVAL_S = 0.05
PROBE_SHARE = 0.02
"""Where many start at once each waits long, and asking often would take the processor from the booting ones:
a pause grows with the wait so far, by this share of it."""
LOOK_INTERVAL_S = 0.5
PROBE_TIMEOUT_S = 2.0
_NO_AUTHORITY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Servers are asked over HTTP. Loading the authorities of the system takes longer than all probes."""


class Booting(Protocol):
    """What is asked of a backend while its server boots."""

    async def find_url(self) -> str | None:
        """Where the server listens, when that is known."""
        ...

    async def is_running(self) -> bool | None:
        """Whether it runs; None when nobody can tell."""
        ...

    async def exit_reason(self) -> str:
        """Why it ended."""
        ...


async def await_answer(booting: Booting, name: str, prefix: str, timeout_s: float) -> str:
    """The server's URL, as soon as it answers.

    Parameters
    ----------
    name:
        What the server is called in an error.
    prefix:
        The path of its own URL, with a slash at both ends.

    Raises
    ------
    StartFailed
        When it ends first, or does not answer in time.
    """
    began = looked = time.monotonic()
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, verify=_NO_AUTHORITY) as client,
        ):
            url = None
            while True:
                url = url or await booting.find_url()
                if url is not None and await _answers(client, f"{url}{prefix}api"):
                    return url
                now = time.monotonic()
                # Asking the backend costs more than a refused connection.
                if now - looked > LOOK_INTERVAL_S:
                    looked = now
                    if await booting.is_running() is False:
                        raise StartFailed(name, await booting.exit_reason())
                await asyncio.sleep(max(PROBE_INTERVAL_S, PROBE_SHARE * (now - began)))
    except TimeoutError:
        raise StartFailed(name, f"it did not answer within {timeout_s:g} s") from None


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        response = await client.get(url)
    except httpx.HTTPError:
        return False
    return response.status_code < 500
