"""How a running server speaks to the web service: with its own token, bounded, and never as anybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from beamhub_core.errors import BeamhubError, Unavailable
from beamhub_core.session_life import SessionNow, SessionReport

MAX_ANSWER_BYTES = 256 * 1024
CONNECT_S, ANSWER_S = 5.0, 20.0


class NotOurSession(BeamhubError):
    """Web knows no running session with this server's token (any more)."""

    def __str__(self) -> str:
        return "The platform does not take this server for a running session any more. Save your work."


class NotExtended(BeamhubError):
    """Web did not extend the session; the reason is for its person."""

    exit_code = 4

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class WebLink:
    """The web service of one session.

    Each call raises `Unavailable` when web gives no usable answer in time, and `NotOurSession` when it does
    not know the token. Redirects are not followed: the token goes to this address only.
    """

    url: str
    token: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> WebLink | None:
        """The link that the spawner's variables name; None for a server that is no session."""
        url, token = environment.get("BEAMHUB_WEB_URL", ""), environment.get("JUPYTERHUB_API_TOKEN", "")
        return cls(url.rstrip("/"), token) if url.startswith(("http://", "https://")) and token else None

    async def report(self, report: SessionReport) -> SessionNow:
        """Tell how the session is, and learn how things stand with it."""
        return _read(await self._post("report", report.model_dump_json(exclude_none=True)))

    async def extend(self) -> SessionNow:
        """Extend the session as far as it may be.

        Raises
        ------
        NotExtended
            If it may not be, with the reason.
        """
        return _read(await self._post("extend", "{}"))

    async def _post(self, what: str, body: str) -> HTTPResponse:
        client = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER_BYTES)
        request = HTTPRequest(
            f"{self.url}/internal/session/{what}",
            method="POST",
            body=body,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            connect_timeout=CONNECT_S,
            request_timeout=ANSWER_S,
            follow_redirects=False,
        )
        try:
            response = await client.fetch(request, raise_error=False)
        except (OSError, HTTPClientError, ValueError) as error:
            raise Unavailable("web", type(error).__name__) from None
        finally:
            client.close()
        if response.code == 401:
            raise NotOurSession
        if response.code == 403:
            raise NotExtended(_reason(response))
        if response.code != 200:
            raise Unavailable("web", f"HTTP {response.code}")
        return response


def _read(response: HTTPResponse) -> SessionNow:
    try:
        return SessionNow.model_validate_json(response.body)
    except ValidationError:
        raise Unavailable("web", "its answer has another shape") from None


def _reason(response: HTTPResponse) -> str:
    """The reason in a refusal; only its own words are repeated."""
    try:
        answer: Any = json.loads(response.body)
        return str(answer["refusal"]["reason"])[:500]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "It cannot be extended now. Look under My sessions."
