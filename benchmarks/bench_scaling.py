"""Scale and failure of the engine (B8): weak scaling, cost of a cluster, a killed worker, a resumed journal.

The work is the azimuthal integration of Eiger frames, all in one curve, in units as large as the planner cuts
them. Rows:

- in-process threads against a Dask cluster of threads and of processes, the same units and workers;
- weak scaling: n workers do n times the units of one;
- one of the workers is killed by SIGKILL midway; against the same run without (wanted: 1.25 x);
- a process that is killed midway, and its journal taken up by another: units that were done twice.

Every result is compared bit by bit with that of one thread; a difference ends the benchmark with an error.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detector_data import DATA, expected_counts, write_stack
from side_by_side import Scale, alternate, parse_arguments, report, write_json

from beamhub_reduction.cluster import connect
from beamhub_reduction.nexus import NexusFile, read_frame_stack
from beamhub_reduction.nexus.geometry import Geometry
from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.azimuthal import LEAST_VARIANCE, AzimuthalParameters
from beamhub_reduction.pipeline.azimuthal_input import matrix_of, read_input
from beamhub_reduction.pipeline.azimuthal_work import (
    AzimuthalPart,
    AzimuthalTask,
    integrate_unit,
    merge_azimuthal,
)
from beamhub_reduction.pipeline.digest import content_digest
from beamhub_reduction.pipeline.units import FrameUnit, Segment, plan_frame_units

N_BINS = 1000
PIXEL_M, DISTANCE_M, WAVELENGTH_ANGSTROM = 75e-6, 0.2, 1.0


def plan(path: Path, copies: int, frames_per_unit: int) -> tuple[tuple[FrameUnit, ...], AzimuthalTask]:
    """Units over a file, `copies` times over: as much more work, without as much more disk."""
    with NexusFile(str(path)) as nexus:
        ny, nx = read_frame_stack(nexus, DATA).shape
    geometry = Geometry(DISTANCE_M, ny / 2 * PIXEL_M, nx / 2 * PIXEL_M, PIXEL_M, PIXEL_M, WAVELENGTH_ANGSTROM)
    parameters = AzimuthalParameters(bins=N_BINS, geometry=geometry, mask=expected_counts((ny, nx))[1])
    found = read_input(str(path), DATA, parameters.choices, missing="fail", roots=None)
    stack = found.stack
    segments = [s for unit in plan_frame_units(stack, weights=np.ones(stack.n_frames)) for s in unit.segments]
    units: list[FrameUnit] = []
    group: list[Segment] = []
    for segment in segments * copies:
        group.append(segment)
        n = sum(s.n_rows for s in group)
        if n >= frames_per_unit:
            units.append(FrameUnit(len(units), tuple(group), np.ones(n)))
            group = []
    if group:
        units.append(FrameUnit(len(units), tuple(group), np.ones(sum(s.n_rows for s in group))))
    matrix = matrix_of(found, parameters.binning, segments[0].index)
    return tuple(units), AzimuthalTask(matrix, stack.shape, None, LEAST_VARIANCE, "fail")


def same(found: AzimuthalPart, wanted: str) -> AzimuthalPart:
    """The sums, if they are those wanted, bit by bit."""
    if content_digest(found) != wanted:
        raise SystemExit("the results differ: nothing here can be believed")
    return found


def run(engine: Engine, units: tuple[FrameUnit, ...], task: AzimuthalTask) -> AzimuthalPart:
    """All units, merged in order."""
    return engine.run(integrate_unit, units, task, merge=merge_azimuthal)[0]


def kill_one(client: Any, at: int) -> Callable[[int, int], None]:
    """A progress callback that kills one worker when `at` units are done."""
    victims = list(client.run(os.getpid).values())

    def progress(done: int, total: int) -> None:
        if done == at:
            os.kill(victims[0], signal.SIGKILL)

    return progress


def compare_places(path: Path, workers: int, arguments: Any) -> list[dict[str, Any]]:
    """The same units in threads of this process, on a cluster of threads, on one of processes."""
    units, task = plan(path, arguments.copies, arguments.frames_per_unit)
    n_frames = sum(len(unit.weights) for unit in units)
    wanted = content_digest(run(Engine(threads=1), units, task))
    with connect(workers) as threads, connect(workers, processes=True) as processes:
        engines = {
            f"in process, {workers} threads": Engine(threads=workers),
            f"Dask, {workers} threads": Engine(client=threads),
            f"Dask, {workers} processes": Engine(client=processes),
        }

        def subject(engine: Engine) -> Callable[[], object]:
            return lambda: same(run(engine, units, task), wanted)

        times = alternate({name: subject(e) for name, e in engines.items()}, repeats=arguments.repeats)
    peer = f"in process, {workers} threads"
    unit_s = workers * times[peer].median / len(units)
    title = f"cost of a cluster, {len(units)} units of {unit_s:.2f} s (0.95 x peer is wanted at 0.5 to 2 s)"
    table = report(title, times, Scale(n_frames, "frames", peer=peer))
    threaded = f"Dask, {workers} threads"  # in this process too: its processor time can be compared
    more_s = times[threaded].median_processor - times[peer].median_processor
    table["unit_s"], table["overhead_processor_s_per_unit"] = unit_s, more_s / len(units)
    print(f"  {threaded}: {1e3 * more_s / len(units):.1f} ms of the processor more for each unit")
    return [table]


def weak_scaling(path: Path, arguments: Any) -> list[dict[str, Any]]:
    """n threads do n times the units of one thread."""
    cores = len(os.sched_getaffinity(0))
    subjects: dict[str, Callable[[], object]] = {}
    amounts: dict[str, float] = {}
    for n in [n for n in (1, 2, 4, 8) if n <= cores]:
        units, task = plan(path, arguments.copies * n, arguments.frames_per_unit)
        name = f"{n} threads, {len(units)} units"
        amounts[name] = sum(len(unit.weights) for unit in units) / n
        subjects[name] = lambda n=n, units=units, task=task: run(Engine(threads=n), units, task)  # type: ignore[misc]
    times = alternate(subjects, repeats=arguments.repeats)
    first = next(iter(subjects))
    scale = Scale(amounts[first], "frames/worker", peer=first, amounts=amounts)
    return [report("weak scaling (1.0 x peer is ideal, 0.9 is wanted)", times, scale)]


def killed_worker(path: Path, arguments: Any) -> list[dict[str, Any]]:
    """One of four processes dies by SIGKILL midway; against the same run without."""
    units, task = plan(path, 2 * arguments.copies, arguments.frames_per_unit)
    n_frames = sum(len(unit.weights) for unit in units)
    wanted = content_digest(run(Engine(threads=1), units, task))
    with connect(4, processes=True) as client:

        def undisturbed() -> object:
            client.wait_for_workers(4)
            return same(run(Engine(client=client), units, task), wanted)

        def disturbed() -> object:
            return same(run(Engine(client=client, progress=kill), units, task), wanted)

        def prepare() -> None:
            nonlocal kill
            client.wait_for_workers(4)
            kill = kill_one(client, len(units) // 2)

        kill: Callable[[int, int], None] = kill_one(client, len(units) // 2)
        names = {"all four live": undisturbed, "one is killed midway": disturbed}
        times = alternate(names, repeats=arguments.repeats, before_each=prepare, warm_up=False)
        client.wait_for_workers(4)
    title = "kill -9 of one of four processes (0.8 x peer is wanted)"
    return [report(title, times, Scale(n_frames, "frames", peer="all four live"))]


CHILD = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[5].split(os.pathsep)
from bench_scaling import Engine, plan, run
units, task = plan(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]))
def kill(done, total):
    if done == total // 2:
        os.kill(os.getpid(), 9)
run(Engine(threads=2, journal=Path(sys.argv[2]), progress=kill), units, task)
"""


def resumed(path: Path, folder: Path, arguments: Any) -> list[dict[str, Any]]:
    """A process is killed at half; another one takes its journal up."""
    units, task = plan(path, arguments.copies, arguments.frames_per_unit)
    wanted = content_digest(run(Engine(threads=1), units, task))
    journal = folder / "journal"
    words = [str(path), str(journal), str(arguments.copies), str(arguments.frames_per_unit)]
    places = os.pathsep.join(sys.path)
    killed = subprocess.run([sys.executable, "-c", CHILD, *words, places], check=False)
    if killed.returncode != -signal.SIGKILL:
        raise SystemExit(f"the child was to die by SIGKILL; it ended with {killed.returncode}")
    kept = len(list(journal.glob("*/unit-*.part")))
    began = time.perf_counter()
    found, execution = Engine(threads=2, journal=journal).run(
        integrate_unit, units, task, merge=merge_azimuthal
    )
    seconds = time.perf_counter() - began
    same(found, wanted)
    redone = max(0, len(units) // 2 + 2 - execution.n_resumed)
    print(
        f"\njournal: {kept} of {len(units)} units kept at the kill, {execution.n_resumed} taken up, at most "
        f"{redone} done twice (2 threads: 2 are allowed), bit-equal, {seconds:.2f} s"
    )
    facts = {"units": len(units), "kept": kept, "resumed": execution.n_resumed, "redone_at_most": redone}
    return [{"title": "journal", "rows": [{"name": "resumed", **facts, "wall_s": [seconds]}]}]


def main() -> None:
    """Print the tables and, with --json, write them."""
    arguments = parse_arguments(
        __doc__,
        frames={"type": int, "default": None, "help": "frames of the stack (default 64, quick 16)"},
        copies={"type": int, "default": None, "help": "how often the stack is read (default 16, quick 8)"},
        frames_per_unit={"type": int, "default": None, "help": "frames a unit (default 64, quick 16)"},
    )
    for name, usual, quick in (("frames", 64, 16), ("copies", 16, 8), ("frames_per_unit", 64, 16)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else usual)
    with tempfile.TemporaryDirectory() as folder:
        shape = (512, 1030) if arguments.quick else (2167, 2070)
        stack = write_stack(
            Path(folder, "data"), n_frames=arguments.frames, shape=shape, frames_per_file=arguments.frames
        )
        path = stack.files[0]
        workers = min(2, len(os.sched_getaffinity(0)))
        tables = compare_places(path, workers, arguments)
        tables += weak_scaling(path, arguments)
        tables += killed_worker(path, arguments)
        tables += resumed(path, Path(folder), arguments)
    write_json(arguments, tables)


if __name__ == "__main__":
    # The journal and the workers name the work by its module, which shall be the same in every process.
    import bench_scaling

    bench_scaling.main()
