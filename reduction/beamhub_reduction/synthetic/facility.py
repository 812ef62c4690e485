"""The demonstration's facility: two halls, three proposals, eight datasets of which two are faulty."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from beamhub_reduction.synthetic.faults import write_damaged_file, write_dangling_link_file
from beamhub_reduction.synthetic.powder import PowderOptions, write_powder_scan
from beamhub_reduction.synthetic.tof import TofOptions, write_tof_run
from beamhub_reduction.synthetic.tree import AlreadyThere
from beamhub_reduction.synthetic.truth import Truth

Progress = Callable[[int, int, str], None]

BANK_UNITS = 12  # one bank takes about as long as this many frames. Source: measured, 2 cores
POWDER_FRAMES, DAMAGED_FRAMES, DANGLING_FRAMES = 80, 4, 24


@dataclass(frozen=True, slots=True)
class _Task:
    """One dataset to write: what it is called, what it costs in frames, and how to write it."""

    name: str
    units: int
    write: Callable[[Callable[[int], None]], Truth]


def build_demo_facility(root: Path, *, seed: int, progress: Progress) -> tuple[Truth, ...]:
    """Write the datasets of the demonstration that are not there yet, and return what was planted in these.

    Parameters
    ----------
    root:
        Folder of the two storage pools `hall-a` and `hall-b`; made when missing.
    seed:
        The same seed gives the same data.
    progress:
        Called with (done, total, what is being written); the unit is about one frame.

    Returns
    -------
    The facts of the datasets written now; a dataset that exists is kept as it is and not named here, see
    `update_truth_file`.
    """
    tasks = _tasks(root, seed)
    total = sum(task.units for task in tasks)
    done = 0
    truths: list[Truth] = []
    for task in tasks:
        counted = _Counter(progress, done, total, task.name)
        counted.add(0)
        with suppress(AlreadyThere):
            truths.append(task.write(counted.add))
        done += task.units
        progress(done, total, task.name)
    return tuple(truths)


class _Counter:
    """Adds up the units of one task and tells the progress of all."""

    def __init__(self, progress: Progress, before: int, total: int, name: str) -> None:
        self.progress, self.done, self.total, self.name = progress, before, total, name

    def add(self, units: int) -> None:
        self.done += units
        self.progress(self.done, self.total, self.name)


def _tasks(root: Path, seed: int) -> tuple[_Task, ...]:
    hall_a, hall_b = root / "hall-a", root / "hall-b"
    first = PowderOptions()
    cut = PowderOptions(frames_per_file=16)

    def powder(proposal: str, sample: str, offset: int, options: PowderOptions = first) -> _Task:
        def write(tick: Callable[[int], None]) -> Truth:
            return write_powder_scan(
                hall_a,
                proposal=proposal,
                sample=sample,
                seed=seed + offset,
                n_frames=POWDER_FRAMES,
                options=replace(options, tick=tick),
            )

        return _Task(f"{proposal} {sample}", POWDER_FRAMES, write)

    def faulty(sample: str, offset: int, n_frames: int, kind: partial[Truth]) -> _Task:
        def write(tick: Callable[[int], None]) -> Truth:
            options = replace(cut, tick=tick)
            return kind(
                hall_a,
                proposal="MA-5101",
                sample=sample,
                seed=seed + offset,
                n_frames=n_frames,
                options=options,
            )

        return _Task(f"MA-5101 {sample}", n_frames, write)

    def run(sample: str, offset: int, run_number: int) -> _Task:
        def write(tick: Callable[[int], None]) -> Truth:
            options = TofOptions(run_number=run_number, tick=lambda banks: tick(banks * BANK_UNITS))
            return write_tof_run(
                hall_b, proposal="TO-7303", sample=sample, seed=seed + offset, options=options
            )

        return _Task(f"TO-7303 {sample}", 3 * BANK_UNITS, write)

    return (
        powder("MA-5101", "CeO2", 1, replace(first, unfinished_scan=True)),
        powder("MA-5101", "LaB6", 2),
        faulty("Si", 3, DAMAGED_FRAMES, partial(write_damaged_file)),
        faulty("Ni", 4, DANGLING_FRAMES, partial(write_dangling_link_file)),
        powder("MA-6202", "SrTiO3", 5),
        powder("MA-6202", "Si", 6, replace(first, number=2)),
        run("Si", 7, 41001),
        run("diamond", 8, 41002),
    )
