"""Requests to a provider whose answers may be slow, endless, huge or about somewhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from beamhub_hub.denial import ProviderUnavailable
from beamhub_hub.strict_json import read_strict_json

MAX_ANSWER_BYTES = 512 * 1024
ANSWER_S = 10.0
"""Seconds for one whole answer: the client's own limits start anew with each byte that drips in."""
_TIMEOUT = httpx.Timeout(ANSWER_S, connect=3.0)
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16)
"""More requests than that at once wait for a free connection, for ANSWER_S at most."""


class ProviderHttp:
    """The connections to one provider. Belongs to one event loop; keeps no cookie, follows no redirect."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.date: str | None = None
        """What the peer's clock said in its last answer (the Date header)."""
        # A cookie of the provider would be kept without bound and sent along with other people's logins.
        no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT, limits=_LIMITS, follow_redirects=False, cookies=no_cookies
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def json(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON body (None for an error's body) of one request.

        Raises
        ------
        ProviderUnavailable
            On no whole answer within ANSWER_S, a redirect, a server error, a compressed answer (we do
            not accept one, and a small one can unpack to gigabytes), or one that is too large or no JSON.
        """
        # Not even gzip is accepted: then what is counted below is what the memory holds.
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        try:
            async with asyncio.timeout(ANSWER_S):
                status, body = await self._answer(method, url, sent, form)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise ProviderUnavailable(self._name, type(error).__name__) from None
        if status != 200:
            return status, None
        try:
            return status, read_strict_json(body)
        except ValueError:
            raise ProviderUnavailable(self._name, "answer is no JSON") from None

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        async with self._http.stream(method, url, headers=headers, data=form) as response:
            status, self.date = response.status_code, response.headers.get("Date")
            if status >= 500 or status == 429 or response.is_redirect:  # 429: later, RFC 6585
                raise ProviderUnavailable(self._name, f"HTTP {status}")
            if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
                raise ProviderUnavailable(self._name, "compressed answer")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderUnavailable(self._name, "answer too large")
        return status, bytes(body)
