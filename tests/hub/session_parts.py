"""A person with running sessions, for tests of how they end; and looks from outside at what is left."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from hub.hub_parts import SECRETS, RunningHub  # the folder of these tests, not the room

WAIT_S = 60.0


def await_that(holds: Callable[[], Any], what: str) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s in vain for: {what}"
        time.sleep(0.1)


def api(hub: RunningHub, client: httpx.Client, method: str, path: str, body: Any = None) -> httpx.Response:
    """A call that the hub's own pages would make."""
    client.get(f"{hub.public_url}/hub/home")
    token = next(c.value for c in client.cookies.jar if c.name == "_xsrf" and c.path == "/hub/")
    headers = {"X-XSRFToken": token or "", "Sec-Fetch-Mode": "cors", "Referer": f"{hub.public_url}/hub/home"}
    return client.request(method, f"{hub.public_url}/hub/api{path}", json=body, headers=headers)


def by_token(hub: RunningHub, token: str, path: str = "/user", method: str = "GET") -> httpx.Response:
    """A call with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{hub.url}/hub/api{path}", headers=headers, timeout=30)


def servers_of(hub: RunningHub, account: str) -> dict[str, Any]:
    """An account's servers, as the portal's own token sees them: no request of the account's."""
    answer = by_token(hub, SECRETS["web-service"], f"/users/{account}")
    servers: dict[str, Any] = answer.json().get("servers", {})
    return servers


def start_session(hub: RunningHub, client: httpx.Client, account: str, name: str = "d-1") -> None:
    """Return once the session runs."""
    started = api(hub, client, "POST", f"/users/{account}/servers/{name}", {"user_options": {}})
    assert started.status_code in (201, 202), started.text
    await_that(lambda: servers_of(hub, account).get(name, {}).get("ready"), f"the server\n{hub.log[-3000:]}")


def mint_token(hub: RunningHub, client: httpx.Client, account: str) -> str:
    """A token as people make them for scripts."""
    token: str = api(hub, client, "POST", f"/users/{account}/tokens", {}).json()["token"]
    return token


def processes_of(account: str) -> list[int]:
    """The processes that run as servers of an account."""
    mark, found = f"JUPYTERHUB_USER={account}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def environment_of(pid: int) -> dict[str, str]:
    """A process's environment."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def rows(hub: RunningHub, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What stands in the hub's database."""
    with closing(sqlite3.connect(hub.folder / "hub" / "hub.sqlite", timeout=30)) as database:
        found = database.execute(query, values).fetchall()
        database.commit()
    return found


def id_of(hub: RunningHub, account: str) -> int:
    """An account's number in the hub's database."""
    return int(rows(hub, "select id from users where name = ?", account)[0][0])
