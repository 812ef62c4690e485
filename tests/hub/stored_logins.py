"""The hub's encrypted records of logins, read and changed while the hub is stopped."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet

from hub.hub_parts import (  # the folder of these tests, not the room
    SECRETS,
    RunningHub,
    await_hub,
    start_hub,
    stop,
)
from hub.session_parts import rows
from kept_processes import kept_processes


def _fernet() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(bytes.fromhex(SECRETS["crypt-key"])))


def read_login(hub: RunningHub, account: str) -> dict[str, Any]:
    """What the hub keeps of an account."""
    stored = rows(hub, "select encrypted_auth_state from users where name = ?", account)[0][0]
    found: dict[str, Any] = json.loads(_fernet().decrypt(stored))
    return found


def write_login(hub: RunningHub, account: str, record: dict[str, Any]) -> None:
    """Replace it."""
    sealed = _fernet().encrypt(json.dumps(record).encode())
    rows(hub, "update users set encrypted_auth_state = ? where name = ?", sealed, account)


def restart(hub: RunningHub, change: Callable[[], None] = lambda: None) -> None:
    """Kill the hub, and start it again after a change; whoever started it first stops this one, too."""
    stop(hub.process, signal.SIGKILL)
    change()
    hub.process = start_hub(hub.folder)
    kept_processes.add(hub.process.pid)
    await_hub(hub.process, hub.url, hub.folder)
