"""How the portal talks to the hub: as the person, with the person's own token, bounded in time."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beamhub_core.errors import BeamhubError, Unavailable
from beamhub_core.session import SessionRequest
from beamhub_core.trace import HEADER, current_trace_id, new_trace_id, traceparent

log = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(5.0, connect=2.0)
START_TIMEOUT_S = 2.5  # the hub may hold the answer until the server runs; the launch page takes over
SILENCE_S = 0.2  # a progress stream that says nothing for this long has said what it knows
MAX_ANSWER_BYTES = 1_000_000
_REFERENCE = re.compile(
    r"^(?P<reason>.{1,600}?) ?\[(?P<code>[a-z_]{1,40}), reference (?P<ref>[\w-]{1,40})\]", re.S
)


class HubServer(BaseModel):
    """A server as the hub knows it now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    display_name: str | None = None
    pending: str | None = None
    ready: bool = False
    stopped: bool = False


class HubUser(BaseModel):
    """Whom a token stands for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(max_length=255)
    kind: Literal["user"]
    scopes: frozenset[str] = frozenset()
    servers: dict[str, HubServer] = {}


@dataclass(frozen=True, slots=True)
class Started:
    """The hub took the wish, or the server was there already."""

    already: bool


class HubRefused(BeamhubError):
    """The hub said no, in words for the person; `code` and `reference` where it gave them."""

    exit_code = 4

    def __init__(
        self, status: int, reason: str, code: str | None = None, reference: str | None = None
    ) -> None:
        super().__init__(status, reason, code, reference)
        self.status, self.reason, self.code, self.reference = status, reason, code, reference

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a start has come, in the spawner's own words."""

    percent: int
    messages: tuple[str, ...]
    failed: str | None = None


class HubClient:
    """The hub's API as the portal uses it; synchronous and safe to share between threads.

    Every method raises `Unavailable` when the hub does not answer in time or answers with a fault.
    """

    def __init__(self, api_url: str, client_token: str) -> None:
        self._client_token = client_token
        self._http = httpx.Client(base_url=api_url.rstrip("/"), timeout=TIMEOUT, follow_redirects=False)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def exchange(self, client_id: str, code: str, verifier: str) -> str | None:
        """The person's token for an authorization code, None if refused.

        Source: RFC 6749 section 4.1.3 with RFC 7636.
        """
        form = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "client_secret": self._client_token,
            "code": code,
            "code_verifier": verifier,
        }
        response = self._send("POST", "/oauth2/token", data=form)
        if response.status_code in (400, 401, 403):
            return None
        token = _json(response).get("access_token")
        if not isinstance(token, str) or not 8 <= len(token) <= 1024:
            raise Unavailable("hub", "its token answer holds no token")
        return token

    def user(self, token: str) -> HubUser | None:
        """Whom a token stands for; None for a token that is none (any more), or not a person's."""
        response = self._send("GET", "/user", token)
        if response.status_code in (401, 403, 404):
            return None
        answer = _json(response)
        if answer.get("kind") != "user":
            return None
        try:
            return HubUser.model_validate(answer)
        except ValidationError:
            raise Unavailable("hub", "its user answer has another shape") from None

    def server(self, token: str, account: str, name: str) -> HubServer | None:
        """One server; None when there is none of this name."""
        response = self._send("GET", _server_path(account, name), token)
        if response.status_code == 404:
            return None
        if response.status_code in (401, 403):
            raise _refused(response)
        try:
            return HubServer.model_validate(_json(response))
        except ValidationError:
            raise Unavailable("hub", "its server answer has another shape") from None

    def start(
        self, token: str, account: str, name: str, request: SessionRequest, display_name: str
    ) -> Started:
        """Ask for a server; a server that runs or starts already is what was asked for.

        Raises
        ------
        HubRefused
            With the words of whoever refused.
        """
        trace_id = current_trace_id() or new_trace_id()
        unsaid = set() if request.prepare else {"prepare"}
        body = {
            "display_name": display_name,
            "user_options": request.model_dump(mode="json", exclude_none=True, exclude=unsaid),
        }
        log.info("start asked of the hub: server=%s trace=%s", name, trace_id)
        try:
            response = self._http.post(
                _server_path(account, name),
                json=body,
                headers=_bearer(token) | {HEADER: traceparent(trace_id)},
                timeout=httpx.Timeout(START_TIMEOUT_S, connect=2.0),
            )
        except httpx.ReadTimeout:
            return Started(already=False)  # the hub goes on with it; the launch page tells what becomes of it
        except httpx.HTTPError as error:
            raise Unavailable("hub", type(error).__name__) from None
        if response.is_success:
            return Started(already=False)
        if response.status_code == 400:
            server = self.server(token, account, name)
            if server is not None and (server.ready or server.pending == "spawn"):
                return Started(already=True)
        raise _refused(response)

    def start_for(self, account: str, name: str, request: SessionRequest, display_name: str) -> Started:
        """Ask for a server on somebody's behalf, as the portal itself: for a turn in the queue.

        Raises
        ------
        HubRefused
            With the words of whoever refused.
        """
        return self.start(self._client_token, account, name, request, display_name)

    def stop(self, token: str, account: str, name: str) -> None:
        """Stop a server; one that is not there is stopped already. Raises `HubRefused`."""
        response = self._send("DELETE", _server_path(account, name), token, timeout=15.0)
        if response.status_code not in (200, 202, 204, 404):
            raise _refused(response)

    def progress(self, token: str, account: str, name: str) -> Progress | None:
        """What a start said so far, without waiting for more; None when there is nothing to tell.

        The hub repeats a start's whole story to each new listener, so this reads until the stream falls
        silent and hangs up.
        """
        messages: list[str] = []
        percent = 0
        path = _server_path(account, name) + "/progress"
        timeout = httpx.Timeout(TIMEOUT.connect, read=SILENCE_S)
        deadline = time.monotonic() + 2.0
        try:
            with self._http.stream("GET", path, headers=_bearer(token), timeout=timeout) as stream:
                if not stream.is_success:
                    return None
                for line in stream.iter_lines():
                    event = _event(line)
                    if event.get("failed") is True:
                        return Progress(100, tuple(messages), _words(event).removeprefix("Spawn failed: "))
                    if event:
                        percent = _percent(event, percent)
                        messages.append(_words(event))
                    if event.get("ready") is True or time.monotonic() > deadline or len(messages) > 100:
                        break
        except httpx.ReadTimeout:
            pass
        except httpx.HTTPError as error:
            raise Unavailable("hub", type(error).__name__) from None
        return Progress(percent, tuple(message for message in messages if message))

    def _send(
        self,
        method: str,
        path: str,
        token: str | None = None,
        data: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        try:
            response = self._http.request(
                method,
                path,
                data=data,
                headers=_bearer(token) if token else None,
                timeout=TIMEOUT if timeout is None else httpx.Timeout(timeout, connect=2.0),
            )
        except httpx.HTTPError as error:
            raise Unavailable("hub", type(error).__name__) from None
        if response.status_code >= 500 and method in ("GET", "POST"):
            raise Unavailable("hub", f"HTTP {response.status_code}")
        return response


def read_failure(message: str) -> HubRefused | None:
    """The refusal in a message that one of our own processes made; None for any other text."""
    found = _REFERENCE.match(message)
    if found is None:
        return None
    return HubRefused(403, found["reason"].strip(), found["code"], found["ref"])


def _server_path(account: str, name: str) -> str:
    return f"/users/{quote(account, safe='')}/servers/{quote(name, safe='')}"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _json(response: httpx.Response) -> dict[str, Any]:
    if len(response.content) > MAX_ANSWER_BYTES:
        raise Unavailable("hub", "its answer is too large")
    try:
        body = response.json()
    except ValueError:
        body = None
    if not response.is_success or not isinstance(body, dict):
        raise Unavailable("hub", f"HTTP {response.status_code}")
    return body


def _refused(response: httpx.Response) -> HubRefused:
    """What an error answer says; only words that our own processes signed with a reference are repeated."""
    try:
        body = response.json()
        message = body.get("message") if isinstance(body, dict) else None
    except ValueError:
        message = None
    signed = read_failure(message) if isinstance(message, str) else None
    if signed is not None:
        return HubRefused(response.status_code, signed.reason, signed.code, signed.reference)
    log.warning("hub refused", extra={"status": response.status_code, "hub_message": str(message)[:300]})
    return HubRefused(response.status_code, "")


def _event(line: str) -> dict[str, Any]:
    if not line.startswith("data:"):
        return {}
    try:
        event = json.loads(line[5:])
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _words(event: dict[str, Any]) -> str:
    message = event.get("message")
    return message[:600] if isinstance(message, str) else ""


def _percent(event: dict[str, Any], before: int) -> int:
    value = event.get("progress")
    return max(before, min(100, int(value))) if isinstance(value, int | float) else before
