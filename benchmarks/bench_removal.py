"""How long data stays in reach after a removal at the provider, beside JupyterHub's own refresh.

A hub process with the tests' scriptable provider and doubles of web and proxy; one session at a time. The
person is removed at a random moment of a round and sends no request afterwards. Measured until web is told
and until the session's process is gone. The limit is what the configuration promises: two rounds.

The peer is the same hub without our refresher: JupyterHub 6.1 asks the provider inside requests only, so it
is watched for ten rounds and what it did is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the scriptable provider lives there

from beamhub_core.identity import account_name  # noqa: E402
from beamhub_core.process_table import is_running  # noqa: E402
from hub.hub_parts import RunningHub, browser, log_in, running_hub  # noqa: E402  # the tests' folder
from hub.session_parts import processes_of, start_session  # noqa: E402  # as above

PATIENCE_S = 120.0
ROUNDS_OF_THE_PEER = 10
NO_REFRESHER = """
import asyncio
from beamhub_hub.refresher import Refresher

async def never(self):
    await asyncio.Event().wait()

Refresher.run = never
"""


def seconds_until(holds: Callable[[], bool], since: float, patience_s: float) -> float | None:
    """Seconds from an instant until something holds; None when it did not in time."""
    while not holds():
        if time.monotonic() - since > patience_s:
            return None
        time.sleep(0.01)
    return time.monotonic() - since


def begin(hub: RunningHub, subject: str) -> tuple[str, int]:
    """The account and the process of a person who just started a session."""
    hub.provider.reset().subject = subject
    account = account_name(hub.provider.issuer, subject)
    with browser() as client:
        log_in(hub, client)
        start_session(hub, client, account)
    return account, min(processes_of(account))


def remove(hub: RunningHub) -> float:
    """Remove everybody at the provider; returns when."""
    hub.provider.script.userinfo["voperson_id"] = "test@provider.example"
    return time.monotonic()


def with_refresh(refresh_s: float) -> Callable[[dict[str, Any]], None]:
    """A configuration with this round."""

    def change(fields: dict[str, Any]) -> None:
        fields["login"]["refresh_s"] = refresh_s

    return change


def measure(n: int, refresh_s: float) -> tuple[list[float], list[float]]:
    """Seconds until web was told, and until the session was gone, of each removal."""
    told: list[float] = []
    gone: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="beamhub-bench-") as folder,
        running_hub(Path(folder), change=with_refresh(refresh_s)) as hub,
    ):
        for i in range(n):
            account, pid = begin(hub, f"person-{i}")
            time.sleep(random.uniform(0, refresh_s))  # noqa: S311  # a moment of the round, no secret
            since = remove(hub)
            at_web = seconds_until(lambda a=account: a in hub.web.removed, since, PATIENCE_S)  # type: ignore[misc]
            at_end = seconds_until(lambda p=pid: not is_running(p), since, PATIENCE_S)  # type: ignore[misc]
            if at_web is None or at_end is None:
                raise SystemExit(f"removal {i} had no effect within {PATIENCE_S:.0f} s")
            told.append(at_web)
            gone.append(at_end)
    return told, gone


def peer_still_runs(refresh_s: float) -> bool:
    """Whether the session goes on ten rounds after the removal, without our refresher."""
    with tempfile.TemporaryDirectory(prefix="beamhub-bench-") as name:
        extra = Path(name) / "jupyterhub_config.d"
        extra.mkdir()
        (extra / "no_refresher.py").write_text(NO_REFRESHER)
        with running_hub(Path(name), change=with_refresh(refresh_s)) as hub:
            _, pid = begin(hub, "person")
            ended = seconds_until(lambda: not is_running(pid), remove(hub), ROUNDS_OF_THE_PEER * refresh_s)
            if ended is None:
                os.kill(pid, 15)
                seconds_until(lambda: not is_running(pid), time.monotonic(), 30.0)
    return ended is None


def summary(values: list[float]) -> dict[str, float]:
    """A distribution in five numbers, seconds."""
    ordered = sorted(values)
    return {
        "fastest_s": round(ordered[0], 3),
        "median_s": round(statistics.median(ordered), 3),
        "p95_s": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3),
        "slowest_s": round(ordered[-1], 3),
    }


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description="Removal at the provider to the end of the session.")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--refresh-s", type=float, default=2.0)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    told, gone = measure(arguments.repeats, arguments.refresh_s)
    limit_s = 2 * arguments.refresh_s
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "removals": arguments.repeats,
        "refresh_s": arguments.refresh_s,
        "limit_s": limit_s,
        "web told": summary(told),
        "session gone": summary(gone),
        "slowest per limit": round(max(gone) / limit_s, 2),
        "JupyterHub's own refresh, no request": {
            "watched_s": ROUNDS_OF_THE_PEER * arguments.refresh_s,
            "session still runs": peer_still_runs(arguments.refresh_s),
        },
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
