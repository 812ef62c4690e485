"""More starts than a host has room for, as real containers: who runs, who waits, and that nobody is lost.

    cd tests && python -m spawners.crowd --json ../docs/measurements/sessions-crowd.json

With `--image lab` the servers are JupyterLab, as many as `--slots` says; each takes 150 MB and 2 s of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from beamhub_catalogue.models import QueueTicketRow
from beamhub_core.identity import Principal
from beamhub_spawners.docker_network import LABEL
from contracts.docker_parts import BASE_IMAGE, engine_client
from contracts.docker_platform import DockerPlatform, running_docker_platform
from contracts.small_image import make_image
from portal.portal_parts import person

SMALL_IMAGE = "beamhub-test-crowd:dev"
LIMIT_S = 600.0
REFUSAL_LIMIT_S = 2.0


@dataclass
class Crowd:
    """What became of everybody."""

    starts: int
    slots: int
    at_once: int
    failed: int = 0
    ran: int = 0
    waited: int = 0
    positions: list[int] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    all_answered_s: float = 0.0
    refused_when_quiet_s: float = 0.0
    started_later: int = 0
    lost: list[str] = field(default_factory=list)
    most_at_a_moment: int = 0

    def is_whole(self) -> bool:
        """Whether exactly the slots ran, exactly the rest waited in order, and all got their turn."""
        n_waiting = self.starts - self.slots
        return (
            (self.failed, self.ran, self.waited) == (0, self.slots, n_waiting)
            and sorted(self.positions) == list(range(1, n_waiting + 1))
            and (self.started_later, self.lost) == (n_waiting, [])
            and self.most_at_a_moment <= self.slots
            and self.refused_when_quiet_s < REFUSAL_LIMIT_S
        )


def running(hub: DockerPlatform) -> set[str]:
    """The accounts whose container runs."""
    return {one["Labels"][f"{LABEL}account"] for one in hub.containers() if one["State"] == "running"}


def waiting(hub: DockerPlatform) -> list[str]:
    """The accounts that wait, in order."""
    with hub.service.database.reading() as session:
        query = select(QueueTicketRow.account).order_by(QueueTicketRow.turn, QueueTicketRow.id)
        return list(session.scalars(query))


def until(holds: Callable[[], bool], hub: DockerPlatform) -> None:
    """Wait for something, for a limited time."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, hub.log.read_text()[-4000:]
        time.sleep(0.2)


def crowd(hub: DockerPlatform, *, starts: int, slots: int, at_once: int) -> Crowd:
    """Start more than there is room for, so many at once; then make room, and see that all get their turn."""
    people = {one.account: one for one in (person(f"crowd{i}") for i in range(starts))}
    late = person("late")
    for one in (*people.values(), late):
        hub.introduce(one)
    found = Crowd(starts, slots, at_once)

    def ask(one: Principal) -> None:
        began = time.monotonic()
        answer = hub.start(one)
        if answer.status_code == 503:
            found.refusals_s.append(round(time.monotonic() - began, 2))
            said = re.search(r"at place (\d+) of the queue", answer.json().get("message", ""))
            found.positions.append(int(said.group(1)) if said else 0)
        elif answer.status_code not in (201, 202):
            found.failed += 1

    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(ask, people.values()))
    until(lambda: len(running(hub)) + len(waiting(hub)) + found.failed >= starts, hub)
    hub.settled_servers(LIMIT_S)
    found.all_answered_s = round(time.monotonic() - began, 1)
    first, queue = running(hub), waiting(hub)
    found.ran, found.waited = len(first), len(queue)
    # Whoever was refused while his start was pending already was told in the hub's page, not in an answer.
    found.positions += [queue.index(one) + 1 for one in queue][len(found.positions) :]
    found.most_at_a_moment = len(first)
    began = time.monotonic()
    assert hub.start(late).status_code == 503
    found.refused_when_quiet_s = round(time.monotonic() - began, 3)
    hub.service.queue.leave(late.account, "s")
    for account in sorted(first)[: len(queue)]:
        hub.stop(people[account])
        found.most_at_a_moment = max(found.most_at_a_moment, len(running(hub)))
    until(lambda: waiting(hub) == [] and running(hub) >= set(queue), hub)
    found.started_later = len(running(hub) & set(queue))
    found.lost = sorted(set(people) - first - running(hub))
    return found


def main() -> int:
    """Run, print and write; 1 when anybody was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--slots", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--image", choices=("small", "lab"), default="small")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with engine_client() as engine:
        make_image(engine, SMALL_IMAGE)
        image = {"small": SMALL_IMAGE, "lab": BASE_IMAGE}[arguments.image]
        try:
            with running_docker_platform(
                engine, images={arguments.image: image}, capacity=arguments.slots
            ) as hub:
                found = crowd(hub, starts=arguments.starts, slots=arguments.slots, at_once=arguments.at_once)
        finally:
            engine.remove_image(SMALL_IMAGE, force=True)
    facts: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m spawners.crowd", *sys.argv[1:]]),
        "servers": arguments.image,
        **asdict(found),
        "is whole": found.is_whole(),
    }
    text = json.dumps(facts, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return int(not found.is_whole())


if __name__ == "__main__":
    sys.exit(main())
