"""A hub that is killed at random moments of starts and stops, and what is left of it after one sweep.

    cd tests && python -m spawners.hub_kills --json ../docs/measurements/sessions-sigkill.json
    cd tests && python -m spawners.hub_kills --on kubernetes --json FILE

Real JupyterHub, agent, web, and engine or cluster (KUBECONFIG). Most servers are small images, so that many
kills fit into an hour; those that are watched are JupyterLab, with a kernel that holds a variable.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from beamhub_core.identity import Principal
from beamhub_spawners.sweeper import SETTLE
from contracts.cluster_parts import load_image, test_namespace
from contracts.docker_parts import BASE_IMAGE, engine_client
from contracts.docker_platform import running_docker_platform
from contracts.kubernetes_platform import running_kubernetes_platform
from contracts.real_platform import Kernel, RealPlatform
from contracts.small_image import make_image
from portal.portal_parts import person

SMALL_IMAGE = "beamhub-test-kills:dev"
IMAGES = {"lab": BASE_IMAGE, "small": SMALL_IMAGE}


@dataclass
class Truth:
    """What hub, web and engine disagree on after a sweep; all empty when nothing was lost."""

    orphans: list[str] = field(default_factory=list)
    """Containers, networks and pods of no live row."""
    doubles: list[str] = field(default_factory=list)
    """Servers with two containers or pods, or two live rows."""
    lost: list[str] = field(default_factory=list)
    """Servers that run and the hub does not offer, or that it offers and do not run."""
    unsaid: list[str] = field(default_factory=list)
    """Live rows without a container or pod, or whose one runs and that do not say so."""

    def is_whole(self) -> bool:
        """Whether all agree."""
        return not (self.orphans or self.doubles or self.lost or self.unsaid)


@dataclass
class Kills:
    """What was done and found."""

    n: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    serving_s: list[float] = field(default_factory=list)
    rounds: list[Truth] = field(default_factory=list)
    kernels_asked: int = 0
    kernels_forgot: int = 0


def truth(hub: RealPlatform) -> Truth:
    """Compare what the hub offers, the rows of web, and what the engine or cluster has."""
    offered = {name for name, server in hub.settled_servers().items() if server["ready"]}
    live = hub.live_sessions()
    rows = {one.plan.id: f"{one.plan.account}/{one.plan.server_name}" for one in live}
    states = {one.plan.id: one.record.state for one in live}
    objects = hub.objects()
    running: Counter[str] = Counter()
    found = Truth()
    for one in objects:
        if one.plan_id not in rows:
            found.orphans.append(one.name)
        if one.is_running:
            running[one.server] += 1
            if states.get(one.plan_id) != "running":
                found.unsaid.append(f"{one.plan_id} runs; its row says {states.get(one.plan_id)}")
    found.orphans += hub.remains(set(rows))
    planned = {one.plan_id for one in objects}
    found.unsaid += [f"row {one} has nothing" for one in rows if one not in planned]
    found.doubles += [name for name, n in (running + Counter()).items() if n > 1]
    found.doubles += [name for name, n in Counter(rows.values()).items() if n > 1]
    found.lost += [f"{name} runs unseen" for name in set(running) - offered]
    found.lost += [f"{name} is offered and does not run" for name in offered - set(running)]
    return found


LOOKS, LOOK_PAUSE_S = 8, 5.0


@dataclass
class Trial:
    """A hub that is killed again and again, and the people whose servers start and stop meanwhile."""

    hub: RealPlatform
    people: list[Principal]
    watched: dict[str, Kernel]
    draw: random.Random
    settle: timedelta
    act_s: float
    kills: Kills = field(default_factory=Kills)

    def kill_once(self) -> None:
        """Ask for a start or a stop of somebody, kill the hub at some moment of it, and start it again."""
        one = self.draw.choice(self.people)
        is_active = f"{one.account}/s" in self.hub.servers()
        act = "stop" if is_active else "start"
        asked = threading.Thread(target=self._ask, args=(act, one))
        asked.start()
        time.sleep(self.draw.uniform(0, self.act_s))  # the random moment is the point
        self.hub.kill_hub()
        asked.join(30)
        self.kills.n += 1
        self.kills.acts[act] += 1
        self.kills.serving_s.append(round(self.hub.start_hub(), 2))

    def sweep_and_look(self) -> Truth:
        """One sweep, when what was cut off is old enough for it, and what is then true."""
        self.hub.settled_servers(180)
        time.sleep(self.settle.total_seconds() + 1)
        self.hub.sweep(settle=self.settle)
        found = truth(self.hub)
        for _ in range(LOOKS):  # a server that ended while nobody looked is offered until the hub's next look
            if not found.lost:
                break
            time.sleep(LOOK_PAUSE_S)
            found = truth(self.hub)
        self.kills.rounds.append(found)
        for account, kernel in self.watched.items():
            self.kills.kernels_asked += 1
            self.kills.kernels_forgot += kernel.run("print(x)") != account
        return found

    def _ask(self, act: str, one: Principal) -> None:
        try:
            if act == "start":
                self.hub.start(one, options={"environment": "small"})
            else:
                self.hub.call("DELETE", f"/users/{one.account}/servers/s")
        except httpx.HTTPError:
            pass  # the hub was killed: that is what this is about


def trial(hub: RealPlatform, *, n_people: int, n_watched: int, seed: int, settle: timedelta) -> Trial:
    """People whose servers come and go, and some whose kernels hold a variable."""
    people = [person(f"p{i}") for i in range(n_people)]
    keepers = [person(f"keeper{i}") for i in range(n_watched)]
    for one in (*people, *keepers):
        hub.introduce(one)
    watched = {}
    for one in keepers:
        assert hub.start(one, options={"environment": "lab"}).status_code in (201, 202)
        watched[one.account] = hub.kernel(one.account)
        watched[one.account].run(f"x = {one.account!r}")
    began = time.monotonic()
    assert hub.start(people[0], options={"environment": "small"}).status_code in (201, 202)
    hub.await_server(people[0].account)
    act_s = 1.3 * (time.monotonic() - began)
    return Trial(hub, people, watched, random.Random(seed), settle, act_s)  # noqa: S311 - the same moments


def main() -> int:
    """Kill, sweep, compare, and write what came of it; 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--on", choices=("docker", "kubernetes"), default="docker")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--per-sweep", type=int, default=10, help="kills before each sweep")
    parser.add_argument("--settle-s", type=float, default=SETTLE.total_seconds())
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with engine_client() as engine:
        make_image(engine, SMALL_IMAGE)
        try:
            with running_platform(engine, arguments.on) as hub:
                settle = timedelta(seconds=arguments.settle_s)
                made = trial(hub, n_people=8, n_watched=2, seed=arguments.seed, settle=settle)
                for i in range(1, arguments.kills + 1):
                    made.kill_once()
                    if i % arguments.per_sweep == 0 or i == arguments.kills:
                        found = made.sweep_and_look()
                        sys.stderr.write(f"{i} kills: {found}\n")
                        if not found.is_whole():
                            sys.stderr.write(hub.log.read_text()[-6000:])
        finally:
            engine.remove_image(SMALL_IMAGE, force=True)
    said = report(made.kills, arguments)
    text = json.dumps(said, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    wrong = said["orphans"] + said["doubles"] + said["lost servers"] + said["rows that say other"]
    return int(bool(wrong + made.kills.kernels_forgot))


@contextmanager
def running_platform(engine: Any, on: str) -> Iterator[RealPlatform]:
    """A platform on this machine's engine, or on the cluster of KUBECONFIG."""
    if on == "docker":
        with running_docker_platform(engine, images=IMAGES) as hub:
            yield hub
        return
    with test_namespace() as cluster:
        for image in IMAGES.values():
            load_image(image, cluster.run_folder)
        with running_kubernetes_platform(cluster, images=IMAGES) as pods:
            yield pods


def report(kills: Kills, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures, with the machine, the date and the command."""
    serving = sorted(kills.serving_s)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m spawners.hub_kills", *sys.argv[1:]]),
        "on": arguments.on,
        "kills": kills.n,
        "during": dict(kills.acts),
        "sweeps": len(kills.rounds),
        "settle_s": arguments.settle_s,
        "orphans": sum(len(one.orphans) for one in kills.rounds),
        "doubles": sum(len(one.doubles) for one in kills.rounds),
        "lost servers": sum(len(one.lost) for one in kills.rounds),
        "rows that say other": sum(len(one.unsaid) for one in kills.rounds),
        "hub serves again, s": {
            "median": serving[len(serving) // 2],
            "slowest": serving[-1],
            "limit": 20,
        },
        "kernels asked": kills.kernels_asked,
        "kernels that forgot": kills.kernels_forgot,
        "what was found": [asdict(one) for one in kills.rounds if not one.is_whole()],
    }


if __name__ == "__main__":
    sys.exit(main())
