"""Runs of the European XFEL: a file for each module and sequence, frames matched by train and pulse.

Source: European XFEL data format, https://extra-data.readthedocs.io/en/latest/data_format.html
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beamhub_core.errors import BeamhubError
from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.nexus.virtual import Layout, read_layout

IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

FILE_NAME = re.compile(
    r"(?P<kind>[A-Z]+)-(?P<run>R\d+)-(?P<group>[A-Z]+)(?P<module>\d+)-S(?P<sequence>\d+)\.h5"
)
SOURCE = re.compile(r"(?P<detector>.+)/DET/(?P<module>\d+)CH\d+:xtdf")
MAX_FILES = 4096
MAX_TRAINS = 10_000_000


class XfelRunInvalid(BeamhubError):
    """The files are no run of detector modules, or contradict each other."""

    exit_code = 3

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path} is no run of XFEL detector modules: {self.reason}. Name one file of it, such as "
            "RAW-R0001-AGIPD00-S00000.h5, with the others beside it."
        )


@dataclass(frozen=True, slots=True)
class ModuleFrames:
    """The usable frames of one sequence file of one module, in the order of the file.

    `rows` are places in `data`, whose shape is (n, 2, ny, nx) (raw: analog and gain) or (n, ny, nx); `train`,
    `pulse` and `cell` belong to them, all of shape (n_frames,), int64.
    """

    module: int
    data: Layout
    rows: IntArray
    train: IntArray
    pulse: IntArray
    cell: IntArray

    def select(self, keep: BoolArray) -> ModuleFrames:
        """Some of the frames."""
        return ModuleFrames(
            self.module, self.data, self.rows[keep], self.train[keep], self.pulse[keep], self.cell[keep]
        )


@dataclass(frozen=True, slots=True)
class XfelRun:
    """All modules of a run: frames by file, and how many trains of modules were left out, by reason."""

    detector: str
    modules: tuple[int, ...]
    frames: tuple[ModuleFrames, ...]
    shape: tuple[int, int]
    dtype: str
    left_out: dict[str, int]

    @property
    def is_raw(self) -> bool:
        """Whether frames have a gain plane behind the analog one."""
        return len(self.frames[0].data.shape) == 4 and self.frames[0].data.shape[1] == 2


def find_run_files(file: str) -> tuple[Path, ...]:
    """The files of all modules and sequences of the run that a file belongs to.

    Raises
    ------
    XfelRunInvalid
    """
    given = Path(file)
    named = FILE_NAME.fullmatch(given.name)
    if named is None:
        raise XfelRunInvalid(file, "its name does not say run, module and sequence")
    wanted = (named["kind"], named["run"], named["group"])
    found = []
    for path in sorted(given.parent.iterdir()):
        match = FILE_NAME.fullmatch(path.name)
        if match is not None and (match["kind"], match["run"], match["group"]) == wanted:
            found.append(path)
        if len(found) > MAX_FILES:
            raise XfelRunInvalid(file, f"more than {MAX_FILES} files")
    return tuple(found)


def read_xfel_run(file: str, *, roots: Roots = None) -> XfelRun:
    """The frames of all modules of a run; the frames themselves are not read.

    Left out, and counted by train of a module: trains with the id 0 or a flag of 0, trains without frames,
    trains that reach beyond the data or whose frames name another train, and trains or pulses that stand
    twice.

    Raises
    ------
    XfelRunInvalid
    """
    left_out: Counter[str] = Counter()
    pieces: list[ModuleFrames] = []
    detectors: set[str] = set()
    seen: set[int] = set()
    for path in find_run_files(file):
        with NexusFile(path, roots) as nexus:
            for detector, module, image, index in _find_images(nexus):
                detectors.add(detector)
                seen.add(module)
                piece = _read_module(nexus, module, image, index, left_out)
                if piece is not None:
                    pieces.append(piece)
    if not pieces or len(detectors) != 1:
        reason = (
            f"detectors {sorted(detectors)}" if len(detectors) > 1 else "no frames of a module were found"
        )
        raise XfelRunInvalid(file, reason)
    kinds = {(p.data.shape[1:], p.data.dtype) for p in pieces}
    if len(kinds) != 1:
        raise XfelRunInvalid(file, f"modules have different frames: {sorted(map(str, kinds))}")
    kept = [p for m in sorted(seen) for p in _without_twice([p for p in pieces if p.module == m], left_out)]
    shape = pieces[0].data.shape
    return XfelRun(
        detectors.pop(), tuple(sorted(seen)), tuple(kept), (shape[-2], shape[-1]), pieces[0].data.dtype,
        dict(sorted(left_out.items())),
    )  # fmt: skip


def match_frames(run: XfelRun, *, require_all: bool) -> tuple[XfelRun, IntArray, IntArray, int]:
    """(run with the matched frames only, their trains, their pulses, trains that were incomplete).

    A frame is known by train and pulse. With `require_all` only those count that every module has.
    """
    trains = np.unique(np.concatenate([p.train for p in run.frames])) if run.frames else np.zeros(0, np.int64)
    pulses = np.unique(np.concatenate([p.pulse for p in run.frames])) if run.frames else np.zeros(0, np.int64)
    n_modules = np.zeros((trains.size, pulses.size), dtype=np.int32)
    places = [(np.searchsorted(trains, p.train), np.searchsorted(pulses, p.pulse)) for p in run.frames]
    for i_train, i_pulse in places:
        n_modules[i_train, i_pulse] += 1  # a module has a train and pulse once only
    full = n_modules == len(run.modules) if require_all else n_modules > 0
    n_incomplete = int(np.count_nonzero(((n_modules > 0) & ~full).any(axis=1)))
    frames = tuple(p.select(full[i, j]) for p, (i, j) in zip(run.frames, places, strict=True))
    matched = XfelRun(run.detector, run.modules, frames, run.shape, run.dtype, run.left_out)
    return matched, trains[full.any(axis=1)], pulses[full.any(axis=0)], n_incomplete


def _find_images(nexus: NexusFile) -> Iterable[tuple[str, int, Node, Node]]:
    """(detector, module, image group, group of its index) of every module in a file."""
    root = nexus.node("/")
    instrument, index = root.get("INSTRUMENT"), root.get("INDEX")
    if instrument is None or index is None or index.get("trainId") is None:
        raise XfelRunInvalid(nexus.path, "it has no INSTRUMENT or no INDEX/trainId")
    for detector in instrument.children():
        folder = detector.get("DET")
        for source in folder.children() if folder is not None else ():
            name = f"{detector.name}/DET/{source.name}"
            match = SOURCE.fullmatch(name)
            image, indexed = source.get("image"), index.get(f"{name}/image")
            if (
                match is not None
                and image is not None
                and indexed is not None
                and image.get("data") is not None
            ):
                yield match["detector"], int(match["module"]), image, indexed


def _read_module(
    nexus: NexusFile, module: int, image: Node, index: Node, left_out: Counter[str]
) -> ModuleFrames | None:
    data_node = image.get("data")
    if data_node is None:
        return None
    data = read_layout(data_node.target, roots=nexus.roots)
    if len(data.shape) not in (3, 4) or (len(data.shape) == 4 and data.shape[1] not in (1, 2)):
        raise XfelRunInvalid(nexus.path, f"frames of shape {data.shape}")
    trains = _integers(nexus, nexus.node("/INDEX"), "trainId")
    if trains.size > MAX_TRAINS:
        raise XfelRunInvalid(nexus.path, f"more than {MAX_TRAINS} trains")
    first, count = _first_and_count(nexus, index, trains.size)
    columns = {name: _integers(nexus, image, name) for name in ("trainId", "pulseId", "cellId")}
    if any(column.size != data.n_rows for column in columns.values()):
        raise XfelRunInvalid(nexus.path, "trainId, pulseId and cellId do not have one value for each frame")
    good = _good_trains(nexus, trains, first, count, data.n_rows, left_out)
    rows = [np.arange(first[i], first[i] + count[i]) for i in np.flatnonzero(good)]
    of_index = np.repeat(trains[good], count[good])
    picked = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    agrees = columns["trainId"][picked] == of_index
    wrong = np.unique(of_index[~agrees])
    if wrong.size:
        left_out["frames name another train"] += int(wrong.size)
        keep = ~np.isin(of_index, wrong)
        picked, of_index = picked[keep], of_index[keep]
    return ModuleFrames(module, data, picked, of_index, columns["pulseId"][picked], columns["cellId"][picked])


def _good_trains(
    nexus: NexusFile, trains: IntArray, first: IntArray, count: IntArray, n_rows: int, left_out: Counter[str]
) -> BoolArray:
    """Which entries of an index can be used; the others are counted by the first reason that applies."""
    flags = nexus.node("/INDEX").numbers("flag")
    # Flags that are not one for each train say nothing.
    flag = np.ones(trains.size) if flags is None or flags.size != trains.size else flags.ravel()
    reasons = {
        "train id 0": trains <= 0,
        "flagged invalid": flag == 0,
        "no frames": count == 0,
        "index beyond the data": (first < 0) | (count < 0) | (first > n_rows) | (count > n_rows - first),
    }
    good = np.ones(trains.size, dtype=np.bool_)
    for reason, bad in reasons.items():
        n_bad = int(np.count_nonzero(good & bad))
        if n_bad:
            left_out[reason] += n_bad
        good &= ~bad
    return good


def _first_and_count(nexus: NexusFile, index: Node, n_trains: int) -> tuple[IntArray, IntArray]:
    """First frame and number of frames of each train; old files give the last frame and a status instead."""
    first = _integers(nexus, index, "first")
    if index.get("count") is not None:
        count = _integers(nexus, index, "count")
    else:
        status = _integers(nexus, index, "status")
        count = np.where(status > 0, _integers(nexus, index, "last") - first + 1, 0)
    if first.size < n_trains or count.size < n_trains:
        raise XfelRunInvalid(nexus.path, f"{index.target.path} is shorter than its {n_trains} trains")
    return first[:n_trains], count[:n_trains]


def _integers(nexus: NexusFile, group: Node, name: str) -> IntArray:
    node = group.get(name)
    if node is None or not node.is_dataset:
        raise XfelRunInvalid(nexus.path, f"{group.target.path} has no {name}")
    values = np.asarray(node.values())
    if values.dtype.kind not in "iu":
        raise XfelRunInvalid(nexus.path, f"{node.target.path} has type {values.dtype}")
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        values = np.minimum(values, np.iinfo(np.int64).max)
    return np.atleast_1d(values).ravel().astype(np.int64)


def _without_twice(pieces: list[ModuleFrames], left_out: Counter[str]) -> list[ModuleFrames]:
    """The frames of one module without trains that stand in it twice: nobody can say which is right."""
    if not pieces:
        return []
    train = np.concatenate([p.train for p in pieces])
    key = np.stack([train, np.concatenate([p.pulse for p in pieces])])
    _, inverse, n = np.unique(key, axis=1, return_inverse=True, return_counts=True)
    twice = np.unique(train[n[inverse.ravel()] > 1])
    if not twice.size:
        return pieces
    left_out["train or pulse twice"] += int(twice.size)
    return [p.select(~np.isin(p.train, twice)) for p in pieces]
