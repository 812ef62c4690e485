"""Ten people who connect to clusters at once, as real containers: all get one, and how soon.

    cd tests && python -m spawners.clusters_at_once --json ../docs/measurements/clusters-at-once.json

A start costs processor time and little else: ten at once shall take no more than 1.2 times what ten times the
processor time of one takes on this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contracts.docker_gateway import DockerGateway, docker_gateway
from contracts.docker_parts import engine_client
from spawners.soak_facts import soak_facts

MOST = 1.2
LIMIT_S = 300.0
CONNECT = """
import json, resource, time
import beamhub_reduction
began = time.time()
client = beamhub_reduction.connect(workers=1, grace_s=2)
used = resource.getrusage(resource.RUSAGE_SELF)
ready = {"began": began, "ready": time.time(), "processor_s": used.ru_utime + used.ru_stime}
print(json.dumps(ready), flush=True)
time.sleep(600)
"""


@dataclass
class AtOnce:
    """What became of everybody."""

    users: int
    cores: int
    one_processor_s: float = 0.0
    one_ready_s: float = 0.0
    failed: list[str] = field(default_factory=list)
    all_ready_s: float = 0.0
    slowest_s: float = 0.0

    @property
    def bound_s(self) -> float:
        """What all may take together."""
        return MOST * self.one_processor_s * self.users / self.cores

    def is_fine(self) -> bool:
        """Whether nobody failed, and nobody waited too long."""
        return not self.failed and self.all_ready_s <= self.bound_s


def connect(beside: DockerGateway, plan_ids: list[str]) -> dict[str, Any]:
    """What each session's code says once its cluster is there, or how it ended, by plan."""
    commands = {plan_id: beside.begin(plan_id, CONNECT) for plan_id in plan_ids}
    said: dict[str, Any] = {}
    until = time.monotonic() + LIMIT_S
    while len(said) < len(plan_ids) and time.monotonic() < until:
        for plan_id in set(plan_ids) - set(said):
            found = beside.said(plan_id)
            if found is not None or not beside.goes_on(commands[plan_id]):
                said[plan_id] = found or beside.text(plan_id)[-500:]
        time.sleep(1.0)
    return said


def processor_s(beside: DockerGateway, plan_id: str) -> float:
    """What the parts of a session's cluster have used of the processors."""
    engine = beside.sessions.engine
    stats = [engine.stats(one["Id"], stream=False, one_shot=True) for one in beside.parts(plan_id)]
    return sum(float(one["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9 for one in stats)


def measure(beside: DockerGateway, run: Any, users: int) -> AtOnce:
    """One alone, then all at once."""
    found = AtOnce(users, os.cpu_count() or 1)
    spawners = [beside.start_session(run, f"at-once-{i}") for i in range(users)]
    plan_ids = [one.plan.id for one in spawners]
    first = connect(beside, plan_ids[:1])[plan_ids[0]]
    found.one_ready_s = round(first["ready"] - first["began"], 2)
    found.one_processor_s = round(first["processor_s"] + processor_s(beside, plan_ids[0]), 2)
    beside.kill(plan_ids[0])
    run(beside.until_gone())
    said = connect(beside, plan_ids[1:])
    ready = [one for one in said.values() if isinstance(one, dict)]
    found.failed = [one for one in said.values() if not isinstance(one, dict)]
    found.users = len(plan_ids) - 1
    if ready:
        began = min(one["began"] for one in ready)
        found.all_ready_s = round(max(one["ready"] for one in ready) - began, 2)
        found.slowest_s = round(max(one["ready"] - one["began"] for one in ready), 2)
    for spawner in spawners:
        run(spawner.stop(now=True))
    run(beside.until_gone())
    return found


def main() -> int:
    """Run, print and write; 1 when anybody failed or waited too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        engine_client() as engine,
        asyncio.Runner() as runner,
        docker_gateway(Path(folder), engine, runner.run) as beside,
    ):
        Path(folder).chmod(0o755)
        found = measure(beside, runner.run, arguments.users + 1)  # the first is measured alone
    facts = {**asdict(found), "bound_s": round(found.bound_s, 2), "is fine": found.is_fine()}
    text = json.dumps(soak_facts("spawners.clusters_at_once", facts), indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return int(not found.is_fine())


if __name__ == "__main__":
    sys.exit(main())
