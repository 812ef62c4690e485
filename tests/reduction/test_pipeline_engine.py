"""The engine: the same bits anywhere, bounded, cancellable, patient with storage and with nothing else."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, KilledWorker
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.cluster import connect
from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.errors import Cancelled, MemoryTooSmall, PartKilledWorkers
from beamhub_reduction.pipeline.execute import Execution, Runner
from beamhub_reduction.pipeline.memory import memory_limit, processor_count, units_that_fit
from beamhub_reduction.pipeline.pools import DataLost, Done, ThreadPool
from beamhub_reduction.pipeline.progress import Meter, Progress, silent
from reduction.engine_parts import Piece, Scale, Sum, add_up, marks, merge, pieces, slowly

pytestmark = pytest.mark.slow

TASK = Scale(np.linspace(0, 7, 500))


def run(engine: Engine, units: tuple[Piece, ...], work: Any = add_up, task: Scale = TASK) -> tuple[Sum, Any]:
    return engine.run(work, units, task, merge=merge)


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    """Two worker processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BEAMHUB_SESSION_FILE", raising=False)
        with connect(2, processes=True, memory_gib=1) as client:
            yield client


@given(n=st.integers(1, 40), threads=st.integers(1, 9))
def test_any_number_of_threads_gives_the_same_bits(n: int, threads: int) -> None:
    alone, _ = run(Engine(threads=1), pieces(n))
    many, execution = run(Engine(threads=threads), pieces(n))
    assert many.values.tobytes() == alone.values.tobytes()
    assert many.seen == tuple(str(i) for i in range(n))
    assert execution.n_threads <= min(threads, n)


def test_processes_and_threads_of_a_cluster_give_the_same_bits(client: Client, processes: Client) -> None:
    alone, _ = run(Engine(threads=1), pieces(30))
    for cluster in (client, processes):
        found, execution = run(Engine(client=cluster), pieces(30))
        assert found.values.tobytes() == alone.values.tobytes()
        assert execution.scheduler_id is not None
        assert execution.n_workers == 2


def test_the_task_travels_once_to_each_worker_and_never_with_a_unit(
    processes: Client, tmp_path: Path
) -> None:
    task = replace(TASK, folder=str(tmp_path))
    run(Engine(client=processes), pieces(40), task=task)
    assert 1 <= marks(tmp_path, "pickled") <= 6


@pytest.fixture(scope="module")
def survived(processes: Client, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sum, Path]:
    """What comes out, and its journal, when each of two workers is killed midway, at moments of a seed's.

    Here, for the nannies' new workers outlive it; `spawners/worker_deaths.py` is the long form.
    """
    journal = tmp_path_factory.mktemp("journal")
    moments = random.Random(9).sample(range(3, 20), 2)  # noqa: S311 - when they die
    doomed = dict(zip(moments, processes.run(os.getpid).values(), strict=True))

    def kill(done: int, total: int) -> None:
        if done in doomed:
            os.kill(doomed[done], signal.SIGKILL)

    found, _ = run(Engine(client=processes, progress=kill, journal=journal), pieces(24), slowly)
    processes.wait_for_workers(2, timeout=120)
    return found, journal


def test_workers_that_are_killed_midway_change_nothing_and_all_is_in_the_journal(
    survived: tuple[Sum, Path],
) -> None:
    found, journal = survived
    alone, _ = run(Engine(threads=1), pieces(24))
    again, execution = run(Engine(threads=1, journal=journal), pieces(24), slowly)
    assert found.values.tobytes() == alone.values.tobytes() == again.values.tobytes()
    assert execution.n_resumed == 24


class DyingPool(ThreadPool):
    """Threads that answer as Dask does when workers die: for the unit `culprit` always, for others once."""

    def __init__(self, runner: Runner, culprit: int, error: Callable[[], Exception]) -> None:
        super().__init__(add_up, TASK, 2, runner.ended.put)
        self._culprit, self._error, self._blamed = culprit, error, 0
        self._number: dict[Any, int] = {}

    def submit(self, number: int, unit: Any, ticket: Any, attempt: int) -> Any:
        future = super().submit(number, unit, ticket, attempt)
        self._number[future] = number
        return future

    def result(self, future: Any) -> Done:
        done, number = super().result(future), self._number[future]
        if number == self._culprit or (number == 2 and not self._blamed):
            self._blamed += number == 2
            raise self._error()
        return done


@pytest.mark.parametrize("error", [lambda: DataLost("lost"), lambda: KilledWorker("key", None, 3)])
def test_a_unit_that_ends_every_worker_is_named_and_its_neighbours_are_not(
    error: Callable[[], Exception],
) -> None:
    runner = Runner(units=pieces(6), merge=merge, meter=Meter([p.amount for p in pieces(6)], silent))
    with pytest.raises(PartKilledWorkers, match="piece 4") as caught:
        runner.run(DyingPool(runner, 4, error))
    assert caught.value.number == 4
    runner = Runner(units=pieces(6), merge=merge, meter=Meter([p.amount for p in pieces(6)], silent))
    found = runner.run(DyingPool(runner, 99, error))
    assert found.values.tobytes() == run(Engine(threads=1), pieces(6))[0].values.tobytes()


@pytest.mark.parametrize("on_cluster", [False, True])
def test_a_passing_error_of_the_storage_is_tried_again_and_no_other(
    client: Client, tmp_path: Path, on_cluster: bool
) -> None:
    engine = Engine(client=client if on_cluster else None, threads=2)
    stale = (*pieces(3), Piece(3, str(tmp_path), "stale"))
    found, execution = run(engine, stale)
    assert (found.n, execution.n_retried, marks(tmp_path, "unit3")) == (4, 2, 3)
    cases: tuple[tuple[str, type[Exception], int], ...] = (("corrupt", CorruptChunk, 4), ("gone", OSError, 5))
    for fault, error, number in cases:
        with pytest.raises(error):
            run(engine, (*pieces(3), Piece(number, str(tmp_path), fault)))
        assert marks(tmp_path, f"unit{number}") == 1


@pytest.mark.parametrize("on_cluster", [False, True])
def test_a_cancelled_reduction_ends_within_a_few_units(
    client: Client, tmp_path: Path, on_cluster: bool
) -> None:
    stop = threading.Event()
    engine = Engine(
        client=client if on_cluster else None,
        threads=2,
        progress=lambda done, _: stop.set() if done == 3 else None,
        cancelled=stop.is_set,
    )
    with pytest.raises(Cancelled) as caught:
        run(engine, pieces(60, tmp_path), slowly)
    assert caught.value.exit_code == 130
    assert 3 <= caught.value.n_done < 12
    assert len(list(tmp_path.glob("unit*"))) < 16


def test_an_interrupt_of_the_person_ends_it_too(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Engine(threads=2, progress=interrupt), pieces(50, tmp_path), slowly)
    assert len(list(tmp_path.glob("unit*"))) < 10


def test_units_in_flight_and_parts_out_of_order_are_bounded(tmp_path: Path) -> None:
    """While the first unit is held back, the others may run ahead only so far."""
    gate = threading.Event()
    begun: list[int] = []

    def work(unit: Piece, task: Scale) -> Sum:
        begun.append(unit.number)
        if unit.number == 0:
            gate.wait(20)
        return add_up(unit, task)

    def look() -> None:
        deadline = threading.Event()
        while len(begun) < 12 and not deadline.wait(0.05) and not gate.is_set():
            pass
        deadline.wait(0.2)
        gate.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    seen: list[int] = []
    found, _ = run(Engine(threads=2, progress=lambda *_: seen.append(len(begun))), pieces(100), work)
    watcher.join()
    assert found.n == 100
    before_the_first = begun.index(max(begun[:12])) + 1
    assert before_the_first <= 13


def test_a_unit_that_does_not_fit_is_refused_with_numbers_before_anything_is_done(tmp_path: Path) -> None:
    units = (*pieces(2, tmp_path), Piece(2, working_bytes=3 * 1024**3))
    with pytest.raises(MemoryTooSmall, match=r"piece 2.*3\.00 GiB.*1\.50 GiB") as caught:
        run(Engine(memory_bytes=3 * 1024**3 // 2), units)
    assert (caught.value.needed_bytes, caught.value.exit_code) == (3 * 1024**3, 5)
    assert not list(tmp_path.iterdir())


def test_memory_decides_how_many_units_run_at_once() -> None:
    units = tuple(Piece(i, working_bytes=1000) for i in range(20))
    _, execution = run(Engine(threads=8, memory_bytes=2500), units)
    assert execution.n_threads == 2
    assert units_that_fit([u.amount for u in units], 10_000) == 10


def test_limits_of_the_machine_are_plausible() -> None:
    assert 2**26 < memory_limit() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 <= processor_count() <= len(os.sched_getaffinity(0))


def test_progress_carries_rows_bytes_rate_and_time_left() -> None:
    class Watch:
        seen: list[Progress] = []

        def __call__(self, done: int, total: int) -> None:
            raise AssertionError("show is called instead")

        def show(self, progress: Progress) -> None:
            self.seen.append(progress)

    watch = Watch()
    run(Engine(threads=2, progress=watch), pieces(5), slowly)
    last = watch.seen[-1]
    assert (last.n_done, last.n_units, last.rows_done, last.bytes_total) == (5, 5, 50, 5000)
    assert last.rows_per_s > 0
    assert watch.seen[0].left_s is not None
    assert last.text("frames").startswith("50 of 50 frames, ")


def test_a_run_without_units_is_a_mistake_of_the_step() -> None:
    with pytest.raises(ValueError, match="no units"):
        run(Engine(), ())


def test_executions_of_two_passes_add_up() -> None:
    both = Execution(3, 1.0, None, 0, n_resumed=2, notes=("a",)) + Execution(4, 2.0, "s", 2, notes=("a", "b"))
    assert (both.n_units, both.wall_s, both.scheduler_id, both.n_workers) == (7, 3.0, "s", 2)
    assert (both.n_resumed, both.notes) == (2, ("a", "b"))
