"""Workers that are killed again and again during reductions: the bits, and the time that it costs.

    cd tests && python -m spawners.worker_deaths --json ../docs/measurements/clusters-worker-deaths.json

Real gateway, agent, engine and containers. A session reduces the same scan over and over, first in peace,
then while one of its workers is killed every few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError

from beamhub_reduction.synthetic.powder import PowderOptions, write_powder_scan
from contracts.docker_gateway import DockerGateway, docker_gateway
from contracts.docker_parts import engine_client
from spawners.soak_facts import soak_facts

MOST_COSTLY = 1.5
SCAN = "pools/hall-a/MA-5101/raw/sample-1"
REDUCE = """
import hashlib, json, os, pathlib, time
import beamhub_reduction as br
info = json.loads(pathlib.Path(os.environ["BEAMHUB_SESSION_FILE"]).read_text())
folder = pathlib.Path(info["datasets"][0]["file"]).parent
[file] = folder.glob("**/CeO2_0001/CeO2_0001.h5")
client = br.connect(workers={workers})
def digest():
    curve = br.open_run(str(file)).azimuthal(bins=1000, client=client).curve
    return hashlib.sha256(curve.intensity.tobytes()).hexdigest()
digest()  # loads what workers load once
began, n = time.monotonic(), 0
digests = set()
while n < {times}:
    digests.add(digest())
    n += 1
print(json.dumps({{"wall_s": time.monotonic() - began, "digests": sorted(digests), "n": n}}), flush=True)
time.sleep(600)
"""


@dataclass
class Deaths:
    """What it cost."""

    workers: int
    every_s: float
    times: int
    scan_bytes: int
    peaceful_s: float = 0.0
    killed_s: float = 0.0
    n_killed: int = 0
    same_bits: bool = False

    @property
    def ratio(self) -> float:
        """How much longer the same work took."""
        return self.killed_s / self.peaceful_s

    def is_fine(self) -> bool:
        """Whether the results are the same bit by bit, and took no more than half as long again."""
        return self.same_bits and self.ratio <= MOST_COSTLY and self.n_killed > 0


def kill_one(beside: DockerGateway, plan_id: str, random_: random.Random) -> int:
    """Kill a worker that runs; how many were killed."""
    running = sorted(beside.workers(plan_id))
    if not running:
        return 0
    try:
        beside.sessions.engine.kill(random_.choice(running))
    except APIError:
        return 0  # it had ended by itself
    return 1


def reduce(beside: DockerGateway, run: Any, deaths: Deaths, *, seed: int | None) -> tuple[float, set[str]]:
    """Seconds of all reductions of a session of its own, and the digests of their results."""
    spawner = beside.start_session(run)
    plan_id = spawner.plan.id
    code = REDUCE.format(workers=deaths.workers, times=deaths.times)
    command = beside.begin(plan_id, code)
    while not beside.workers(plan_id):
        time.sleep(0.2)
    random_ = random.Random(seed)  # noqa: S311 - which worker dies
    next_kill = time.monotonic() + deaths.every_s
    while (said := beside.said(plan_id)) is None:
        assert beside.goes_on(command), beside.text(plan_id)
        time.sleep(0.5)
        if seed is not None and time.monotonic() > next_kill:
            deaths.n_killed += kill_one(beside, plan_id, random_)
            next_kill = time.monotonic() + deaths.every_s
    beside.kill(plan_id)
    run(spawner.stop(now=True))
    run(beside.until_gone())
    return float(said["wall_s"]), set(said["digests"])


def measure(folder: Path, arguments: argparse.Namespace) -> Deaths:
    """Both, one after the other."""
    options = PowderOptions(frames_per_file=200)
    folder.joinpath(SCAN).mkdir(parents=True)
    truth = write_powder_scan(
        folder / SCAN, proposal="MA-5101", sample="CeO2", seed=5, n_frames=arguments.frames, options=options
    )
    files = Path(truth.file).parents[1].glob("**/*.h5")
    deaths = Deaths(
        arguments.workers, arguments.every, arguments.times, sum(one.stat().st_size for one in files)
    )
    for path in (folder / SCAN).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    profile = {"cpu": deaths.workers, "memory_gib": 2 * deaths.workers, "workers": deaths.workers}
    with (
        engine_client() as engine,
        asyncio.Runner() as runner,
        docker_gateway(folder, engine, runner.run, **profile) as beside,
    ):
        deaths.peaceful_s, wanted = reduce(beside, runner.run, deaths, seed=None)
        deaths.killed_s, found = reduce(beside, runner.run, deaths, seed=arguments.seed)
    deaths.same_bits = found == wanted and len(wanted) == 1
    return deaths


def main() -> int:
    """Run, print and write; 1 when the bits differ or it took too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two kills")
    parser.add_argument("--times", type=int, default=150, help="how often the scan is reduced")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        deaths = measure(Path(folder), arguments)
    facts = {**asdict(deaths), "ratio": round(deaths.ratio, 2), "is fine": deaths.is_fine()}
    text = json.dumps(soak_facts("spawners.worker_deaths", facts), indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return int(not deaths.is_fine())


if __name__ == "__main__":
    sys.exit(main())
