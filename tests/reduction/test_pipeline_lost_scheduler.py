"""A cluster that somebody else began: used through its client, lost in the middle, gone on without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.errors import ClusterLost
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic.truth import Truth
from reduction.engine_parts import Scale, Sum, add_up, merge, pieces, slowly

pytestmark = pytest.mark.slow

TASK = Scale(np.linspace(0, 7, 500))
N_UNITS = 30

SCHEDULER = """
import sys
from distributed import LocalCluster
where = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": None}
cluster = LocalCluster(n_workers=0, processes=False, **where)
print(cluster.scheduler_address, flush=True)
sys.stdin.read()
"""
WORKERS = """
import asyncio, sys
from distributed import Worker
async def main():
    async with Worker(sys.argv[1], nthreads=2, dashboard=False) as worker:
        print("ready", flush=True)
        await worker.finished()
asyncio.run(main())
"""


@contextmanager
def child(code: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of its own and the first line that it prints; it is ended at the end."""
    paths = [str(Path(__file__).resolve().parents[1]), *(p for p in sys.path if p)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def run(engine: Engine, work: object = slowly) -> tuple[Sum, Execution]:
    return engine.run(work, pieces(N_UNITS), TASK, merge=merge)  # type: ignore[arg-type]


def test_a_cluster_of_others_gives_the_same_bits_and_its_loss_costs_what_was_not_done(
    powder_truth: Truth, outside_session: Path, tmp_path: Path
) -> None:
    alone, _ = run(Engine(threads=1), add_up)
    journal = tmp_path / "journal"
    with (
        child(SCHEDULER) as (scheduler, address),
        child(WORKERS, address) as (_, ready),
        Client(address, timeout=20) as client,
    ):
        assert ready == "ready"
        found, execution = run(Engine(client=client))
        assert found.values.tobytes() == alone.values.tobytes()
        assert (execution.n_workers, execution.n_threads) == (1, 2)
        # The way a person does it: the client of a gateway's cluster, passed to a step.
        own = open_run(powder_truth.file).azimuthal(bins=40, client=client, progress=silent)
        here = open_run(powder_truth.file).azimuthal(bins=40, progress=silent)
        assert own.curve.intensity.tobytes() == here.curve.intensity.tobytes()

        def lose(done: int, total: int) -> None:
            if done == N_UNITS // 2:
                scheduler.send_signal(signal.SIGKILL)

        with pytest.raises(
            ClusterLost, match="repeat the call; with a journal it goes on from there"
        ) as caught:
            run(Engine(client=client, journal=journal, progress=lose))
    assert (caught.value.n_done >= N_UNITS // 2, caught.value.n_units) == (True, N_UNITS)
    again, execution = run(Engine(threads=2, journal=journal))
    assert again.values.tobytes() == alone.values.tobytes()
    assert execution.n_resumed >= caught.value.n_done
    assert not execution.notes
