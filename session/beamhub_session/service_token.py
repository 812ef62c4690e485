"""Narrow tokens for data services, asked from the hub with the session's own token."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from beamhub_core.errors import BeamhubError

MAX_ANSWER_BYTES = 256 * 1024
TIMEOUT_S = 60.0
SPARE_S = 60.0
"""A token that ends sooner than this is not given out again."""
MAX_KEPT = 64


class NoServiceToken(BeamhubError):
    """The hub gives no token for this service; `code` says why in one word."""

    exit_code = 4

    def __init__(self, audience: str, code: str, advice: str) -> None:
        super().__init__(audience, code, advice)
        self.audience, self.code, self.advice = audience, code, advice

    def __str__(self) -> str:
        return f"There is no token for {self.audience!r} ({self.code}). {self.advice}"


_kept: dict[str, tuple[str, float]] = {}
_lock = threading.Lock()  # protects _kept


def service_token(audience: str) -> str:
    """An access token for one data service, for this session's person; a kept one while it is good.

    Send it as `Authorization: Bearer TOKEN` to that service only. The hub gets it from the identity provider
    (RFC 8693) for services that the facility allows; the login's own token never comes here.

    Raises
    ------
    NoServiceToken
        If this is no session, the service is not allowed, or the provider does not give a token now.
    """
    with _lock:
        kept = _kept.get(audience)
    if kept is not None and time.monotonic() < kept[1]:
        return kept[0]
    answer = _ask(audience, os.environ)
    token, life_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not token:
        raise NoServiceToken(audience, "no_answer", "The hub's answer holds no token. Tell your facility.")
    if isinstance(life_s, int) and life_s > SPARE_S:
        with _lock:
            if len(_kept) >= MAX_KEPT:
                _kept.clear()
            _kept[audience] = (token, time.monotonic() + life_s - SPARE_S)
    return token


def _ask(audience: str, environment: Mapping[str, str]) -> dict[str, Any]:
    url, own_token = environment.get("JUPYTERHUB_API_URL"), environment.get("JUPYTERHUB_API_TOKEN")
    if not url or not own_token or not url.startswith(("http://", "https://")):
        raise NoServiceToken(audience, "not_a_session", "Only a running session can ask for one.")
    request = urllib.request.Request(  # noqa: S310  # the scheme is checked above
        f"{url.rstrip('/')}/beamhub/token",
        data=json.dumps({"audience": audience}).encode(),
        headers={"Authorization": f"Bearer {own_token}", "Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310  # as above
            answer = _read(response.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            said = _read(error.read(MAX_ANSWER_BYTES))
        code, advice = str(said.get("error", "refused")), str(said.get("message", "Tell your facility."))
        raise NoServiceToken(audience, code[:40], advice[:300]) from None
    except OSError:
        raise NoServiceToken(audience, "no_answer", "The hub does not answer. Try again later.") from None
    return answer


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
