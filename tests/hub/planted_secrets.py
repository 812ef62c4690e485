"""Secrets planted on every error path of a login, and where of hub log, pages and headers they came up again.

`cd tests && python -m hub.planted_secrets --json ../docs/measurements/login-secrets.json` runs every path at
debug level; the suite runs a part of them. Each login has its own codes, tokens, cookies, state, nonce,
verifier, name, address and group; what is found is told by kind and place, never by value.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx

from hub import test_login_conformance_answers as answers  # the folder of these tests, not the room
from hub import test_login_conformance_basic as basic
from hub import test_login_conformance_refresh as refreshes
from hub import test_login_conformance_token as tokens
from hub.hostile_provider import CLIENT_SECRET, Script, honest
from hub.hub_parts import NAMESPACE, SECRETS, RunningHub, browser, log_in, running_hub

DEBUG = """
import logging
logging.basicConfig(level=logging.DEBUG)
c.Application.log_level = c.JupyterHub.log_level = logging.DEBUG
c.JupyterHub.debug_proxy = c.JupyterHub.debug_db = False
"""
PLACED = {
    "state": ("to the provider", "from the provider"),
    "nonce": ("to the provider",),
    "challenge": ("to the provider",),
}
"""Kinds that belong into the address of a redirect, and into which; beside them only the hint of a logout."""
QUERIES = (
    "code={}",
    "%63ode={}",
    "code={}%ff",
    "id_token_hint={}",
    "id_token={}&x=1",
    "session_state={}",
)
PLACES = ("login/hostile/callback", "oauth_callback", "logout", "login", "oauth_login", "nowhere")
COOKIES = ("jupyterhub-hub-login", "jupyterhub-session-id", "_xsrf", "beamhub-login-" + "A" * 16)


@dataclass
class Planted:
    """What was planted, and what of it was seen where it does not belong."""

    values: dict[str, str] = field(default_factory=dict)
    """Kind of each value."""
    answers: list[httpx.Response] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def plant(self, kind: str, value: str) -> str:
        """Note a value; gives it back."""
        if len(value) >= 8:
            self.values[value] = kind
        return value

    def draw(self, kind: str) -> str:
        """A value of its own."""
        return self.plant(kind, f"planted-{secrets.token_hex(8)}")


@dataclass(frozen=True)
class Run:
    """A hub and what is planted there."""

    hub: RunningHub
    planted: Planted

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A browser whose every answer is kept, and whose cookies are planted as they come."""

        def keep(answer: httpx.Response) -> None:
            answer.read()
            if str(answer.request.url).startswith(self.hub.public_url):
                self.planted.answers.append(answer)
                self.planted.statuses[answer.status_code] += 1
            for name, value in answer.cookies.items():
                if name != "beamhub-provider" and value:
                    self.planted.plant(f"cookie {name.partition('-')[0]}", value.strip('"'))
            location = answer.headers.get("location", "")
            query = parse_qs(urlsplit(location).query)
            for kind, name in (("state", "state"), ("nonce", "nonce"), ("challenge", "code_challenge")):
                for value in query.get(name, []):
                    self.planted.plant(kind, value)

        with browser() as client:
            client.event_hooks = {"response": [keep]}
            yield client

    def script(self) -> Script:
        """An honest provider whose claims are planted."""
        provider, planted = self.hub.provider, self.planted
        self.collect()
        script = provider.reset()
        script.subject = f"person-{secrets.token_hex(6)}"
        script.userinfo |= {
            "name": planted.draw("name"),
            "email": planted.draw("email") + "@example.org",
            "entitlements": [f"{NAMESPACE}:group:other:" + planted.draw("entitlement")],
            "schac_home_organization": planted.draw("organisation"),
            "voperson_id": planted.draw("identifier") + "@example.org",
        }
        script.claims["email"] = script.userinfo["email"]
        return script

    def collect(self) -> None:
        """Note what the provider made since the last time."""
        provider = self.hub.provider
        for value in provider.secrets_sent:
            if not value.startswith("eyJ"):  # the tail of a token; its head is the same in all
                self.planted.plant("code or token", value)
        for form in provider.forms:
            for kind in ("code_verifier", "code", "refresh_token", "client_secret"):
                if kind in form:
                    self.planted.plant(kind, form[kind])


ErrorPath = Callable[[Run], None]


def login_path(change: Callable[[Script], None]) -> ErrorPath:
    """A login that ends as a scripted answer has it."""

    def run(run: Run) -> None:
        script = run.script()
        claims = dict(script.userinfo)
        change(script)
        script.userinfo = {**claims, **script.userinfo}
        with run.browser() as client:
            log_in(run.hub, client)

    return run


def refresh_path(change: Callable[[Script], None]) -> ErrorPath:
    """A login, then a refresh that ends as a scripted answer has it."""

    def run(run: Run) -> None:
        script = run.script()
        with run.browser() as client:
            log_in(run.hub, client)
            deadline = time.monotonic() + 2.1  # younger answers are not asked for again
            while time.monotonic() < deadline:
                time.sleep(0.05)
            run.hub.provider.access.clear()
            change(script)
            client.get(f"{run.hub.public_url}/hub/home")

    return run


def web_is_down(run: Run) -> None:
    """Nobody takes the verified person."""
    run.hub.web.is_down = True
    login_path(lambda script: None)(run)
    run.hub.web.is_down = False


def logout(run: Run) -> None:
    """A login and a logout, with the hint that goes to the provider."""
    run.script().sign = lambda provider, claims: run.planted.plant("id token", honest(provider, claims))
    with run.browser() as client:
        log_in(run.hub, client)
        client.get(f"{run.hub.public_url}/hub/logout")


def odd_addresses(run: Run) -> None:
    """Requests by hand with secrets in query, form, header and cookie."""
    base = f"{run.hub.public_url}/hub"
    draw = run.planted.draw
    with run.browser() as client:
        for path in PLACES:
            for query in QUERIES:
                client.get(f"{base}/{path}?" + query.format(draw("query")))
            client.post(f"{base}/{path}?code={draw('query')}", data={"code": draw("form")})
            client.post(f"{base}/{path}", data={"logout_token": draw("form"), "id_token": draw("form")})
            client.get(f"{base}/{path}", headers={"Authorization": f"Bearer {draw('header')}"})
            client.get(f"{base}/{path}", headers={"Authorization": f"token {draw('header')}"})
            client.get(f"{base}/{path}", headers={"Referer": f"{base}/x?code={draw('referer')}"})
            for name in (
                "jupyterhub-hub-login",
                "jupyterhub-session-id",
                "_xsrf",
                "beamhub-login-" + "A" * 16,
            ):
                client.get(f"{base}/{path}", headers={"Cookie": f"{name}={draw('cookie')}"})
        client.get(f"{base}/login/hostile/callback?state={'A' * 43}&code={draw('query')}")
        client.get(
            f"{base}/api/user?token={draw('query')}", headers={"Authorization": f"token {draw('header')}"}
        )


def broken_database(run: Run) -> None:
    """The one path that ends as 500: a table is gone while people log in."""
    path = run.hub.folder / "hub" / "hub.sqlite"
    with run.browser() as client:
        run.script()
        client.follow_redirects = False
        callback = client.get(log_in(run.hub, client).headers["location"]).headers["location"]
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE users RENAME TO gone")
        database.close()
        client.get(callback, headers={"Referer": callback})
        client.get(f"{run.hub.public_url}/hub/login/hostile?next={quote('/hub/home')}")
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE gone RENAME TO users")
        database.close()


def every_path() -> dict[str, ErrorPath]:
    """All error paths by name."""
    logins = {f"basic: {case}": change for case, (_, change) in basic.DENIED.items()}
    logins |= {f"token: {case}": change for case, (_, change) in tokens.DENIED.items()}
    logins |= {f"answer: {case}": change for case, (_, change) in answers.DENIED.items()}
    logins |= {f"unavailable: {case}": change for case, change in answers.UNAVAILABLE.items()}
    described = {"error_description": "planted by hand", "error": "access_denied", "code": None}
    logins["an error with a description"] = lambda script: script.response.update(described)
    logins["an honest login"] = lambda script: None
    renewals = {f"refresh: {case}": change for case, (_, change) in refreshes.ENDED.items()}
    renewals |= {f"refresh: {case}": change for case, change in refreshes.GRACE.items()}
    return {
        **{name: login_path(change) for name, change in logins.items()},
        **{name: refresh_path(change) for name, change in renewals.items()},
        "web is down": web_is_down,
        "logout": logout,
        "odd addresses": odd_addresses,
        "a broken database": broken_database,
    }


def short_paths() -> dict[str, ErrorPath]:
    """A part of them that has every kind."""
    every = every_path()
    kept = [name for i, name in enumerate(every) if i % 12 == 0 and not name.startswith("refresh")]
    last = (
        "an honest login",
        "refresh: invalid-sub",
        "web is down",
        "logout",
        "odd addresses",
        "a broken database",
    )
    return {name: every[name] for name in (*kept, *last)}


def findings(run: Run) -> list[str]:
    """Kind and place of every planted value that came up where it does not belong."""
    planted, hub = run.planted, run.hub
    log = hub.log
    found = [f"log: {kind}" for value, kind in planted.values.items() if value in log]
    for answer in planted.answers:
        text, path = answer.text, answer.request.url.path
        headers = {name: value for name, value in answer.headers.multi_items() if name != "set-cookie"}
        location = re.sub(r"(?<=[?&])id_token_hint=[^&]*", "", headers.pop("location", ""))
        way = "to the provider" if location.startswith(hub.provider.issuer) else "elsewhere"
        plain = "\n".join(headers.values())
        is_somebody = "jupyterhub-hub-login=" in answer.request.headers.get("cookie", "")
        for value, kind in planted.values.items():
            # Whoever is logged in reads the own name on every page.
            is_own_name = kind == "name" and is_somebody
            if value in text and not is_own_name and not kind.startswith("cookie _xsrf"):
                found.append(f"page {path} ({answer.status_code}): {kind}")
            if value in plain:
                found.append(f"header of {path}: {kind}")
            if value in location and way not in PLACED.get(kind, ()):
                found.append(f"redirect {way} from {path}: {kind}")
    return sorted(set(found))


def run_paths(folder: Path, paths: dict[str, ErrorPath]) -> dict[str, Any]:
    """Plant and look; what comes back holds counts and kinds."""
    extra = folder / "jupyterhub_config.d"
    extra.mkdir(parents=True)
    (extra / "debug.py").write_text(DEBUG)
    with running_hub(folder) as hub:
        run = Run(hub, Planted())
        for name in ("provider", "crypt-key", "hub-cookie", "proxy", "web-service", "hub-client"):
            run.planted.plant("file", SECRETS[name])
        run.planted.plant("client_secret", quote(CLIENT_SECRET, safe=""))
        for path in paths.values():
            path(run)
        run.collect()
        return {
            "paths": len(paths),
            "planted": len(run.planted.values),
            "kinds": dict(sorted(Counter(run.planted.values.values()).items())),
            "answers_of_the_hub": len(run.planted.answers),
            "statuses": {str(status): count for status, count in sorted(run.planted.statuses.items())},
            "bytes_of_log": len(hub.log),
            "tracebacks": hub.log.count("Traceback"),
            "found": findings(run),
        }


def main() -> None:
    """Run every path and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run_paths(Path(folder) / "hub", every_path())
    date = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({"date": date, "command": "python -m hub.planted_secrets", **result}, indent=1)
    print(text)  # noqa: T201
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
