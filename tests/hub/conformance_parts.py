"""What the conformance tests share: a hub with a crowd of providers, and what 'nobody is in' means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from beamhub_hub.handlers import UNATTESTED
from hub.hostile_provider import (  # the folder of these tests, not the room
    CLIENT_ID,
    HostileProvider,
    hostile_provider,
)
from hub.hub_parts import NAMESPACE, RunningHub, browser, log_in, login_cookies, running_hub


@dataclass
class Crowd:
    """One hub at which one can log in by many providers, each with a script of its own."""

    hub: RunningHub
    providers: Mapping[str, HostileProvider]

    def log_in(self, client: httpx.Client, name: str) -> httpx.Response:
        """Walk from the start at one provider to where the login ends."""
        return client.get(f"{self.hub.public_url}/hub/login/{name}", params={"next": "/hub/home"})


@contextmanager
def crowd(folder: Path, providers: Mapping[str, Mapping[str, Any]]) -> Iterator[Crowd]:
    """A hub with hostile providers of these names; each value replaces keys of its configuration."""
    with ExitStack() as stack:
        others = {name: stack.enter_context(hostile_provider()) for name in providers}

        def add(fields: dict[str, Any]) -> None:
            (first,) = fields["login"]["providers"]
            fields["login"]["providers"] = [
                {**first, "name": name, "title": name, "issuer": other.issuer, **providers[name]}
                for name, other in others.items()
            ]

        hub = stack.enter_context(running_hub(folder, change=add))
        yield Crowd(hub, others)


def assert_is_in(hub: RunningHub, client: httpx.Client, answer: httpx.Response) -> None:
    """The login ended at the home page with a login cookie."""
    assert (answer.status_code, answer.url.path) == (200, "/hub/home"), hub.log[-2000:]
    assert login_cookies(client) != set()


def assert_nobody_is_in(hub: RunningHub, client: httpx.Client, answer: httpx.Response, since: int) -> None:
    """No login cookie, nothing at web, no secret of any exchange in page, header or log, no traceback."""
    assert login_cookies(client) == set()
    assert "jupyterhub-hub-login" not in answer.headers.get("set-cookie", "")
    home = client.get(f"{hub.public_url}/hub/home")
    assert home.url.path == "/hub/login"
    log = hub.log[since:]
    for secret in hub.provider.secrets_sent:
        assert secret not in answer.text
        assert secret not in log
    assert "Traceback" not in log
    assert hub.web.pushes == []


def denied(hub: RunningHub, code: str) -> str:
    """Log in, be refused for this reason on a page with a reference; gives the page."""
    since = len(hub.log)
    with browser() as client:
        answer = log_in(hub, client)
        assert answer.status_code == 403, hub.log[since:]
        assert_nobody_is_in(hub, client, answer, since)
    assert_reason(hub, answer, code, since)
    # The audit keeps what a provider vouched for, and nothing that anybody could cause without end.
    vouched = [(notice["kind"], notice["code"]) for notice in hub.web.notices]
    assert vouched == ([] if code in UNATTESTED else [("login_refused", code)])
    return answer.text


def assert_reason(hub: RunningHub, answer: httpx.Response, code: str, since: int) -> None:
    """The page's reference finds one line of the log, and that line says why."""
    reference = answer.text.partition('id="reference">')[2][:8]
    lines = [line for line in hub.log[since:].splitlines() if reference and f"reference={reference}" in line]
    assert len(lines) == 1, (reference, hub.log[since:])
    assert f"reason={code}" in lines[0]


def unavailable(hub: RunningHub) -> str:
    """Log in, and be told that the provider does not answer; gives the page."""
    since = len(hub.log)
    with browser() as client:
        client.timeout = httpx.Timeout(90)
        answer = log_in(hub, client)
        assert answer.status_code == 503, hub.log[since:]
        assert_nobody_is_in(hub, client, answer, since)
    return answer.text


def group(name: str) -> str:
    """A group of the namespace that counts."""
    return f"{NAMESPACE}:group:proposals:{name}"


__all__ = [
    "CLIENT_ID",
    "Crowd",
    "assert_is_in",
    "assert_nobody_is_in",
    "assert_reason",
    "crowd",
    "denied",
    "group",
    "unavailable",
]
