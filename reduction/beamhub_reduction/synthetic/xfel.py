"""European XFEL runs: a file for each module and sequence, memory cells with constants of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

AnyArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class XfelOptions:
    """What a run is like, and what is wrong with it.

    `missing` (module, train), `duplicate`, `zero`, `flagged` and `empty` name the places of trains (0 is the
    first); a duplicate train stands twice in the module's index. `shuffled` modules have their trains out of
    order. Frames of `is_raw` runs are (2, ny, nx) uint16, analog and gain; others are (ny, nx) float32.
    """

    n_modules: int = 2
    n_trains: int = 8
    n_pulses: int = 4
    n_sequences: int = 2
    shape: tuple[int, int] = (512, 128)
    is_raw: bool = True
    old_index: bool = False
    missing: tuple[tuple[int, int], ...] = ()
    duplicate: tuple[tuple[int, int], ...] = ()
    zero: tuple[tuple[int, int], ...] = ()
    flagged: tuple[tuple[int, int], ...] = ()
    empty: tuple[tuple[int, int], ...] = ()
    shuffled: tuple[int, ...] = ()
    n_bad_pixels: int = 20
    gzip: int = 1


@dataclass(frozen=True, slots=True)
class XfelTruth:
    """What was planted in a run.

    `file` is one file of it and `constants` the file of the cells' constants; `trains` and `pulses` are the
    ids. `complete` (n_trains,) says which trains all modules have. `signal` (n_trains, n_pulses) is the
    intensity of every pixel of a frame after correction, relative to `pattern` (n_modules, ny, nx).
    """

    file: Path
    constants: Path
    trains: AnyArray
    pulses: AnyArray
    complete: AnyArray
    signal: AnyArray
    pattern: AnyArray
    bad: AnyArray


DETECTOR = "SPB_DET_AGIPD1M-1"
FIRST_TRAIN = 1_000_000_100


def write_xfel_run(folder: Path, *, seed: int, options: XfelOptions = XfelOptions()) -> XfelTruth:
    """Write the files of one run and their constants; the same seed gives the same values.

    Raw counts are offset + signal * pattern / gain, rounded; so (raw - offset) * gain is near signal *
    pattern.
    """
    o, rng = options, np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    trains = FIRST_TRAIN + np.arange(o.n_trains, dtype=np.uint64)
    pulses = np.arange(o.n_pulses, dtype=np.uint64) * 2
    pattern = rng.uniform(20, 200, (o.n_modules, *o.shape))
    signal = rng.uniform(0.5, 3.0, (o.n_trains, o.n_pulses))
    offset = rng.uniform(3000, 6000, (o.n_modules, o.n_pulses, *o.shape)).astype(np.float32)
    gain = rng.uniform(0.8, 1.25, offset.shape).astype(np.float32)
    bad = np.zeros(offset.shape, dtype=np.uint32)
    bad.reshape(-1)[rng.choice(bad.size, o.n_bad_pixels, replace=False)] = 1
    for module in range(o.n_modules):
        for sequence in range(o.n_sequences):
            mine = np.arange(o.n_trains)[sequence :: o.n_sequences]
            _write_file(
                folder, (module, sequence), mine, options, (trains, pulses, signal, pattern, offset, gain)
            )
    constants = folder / "calibration" / "constants.h5"
    constants.parent.mkdir()
    with h5py.File(constants, "w") as f:
        for module in range(o.n_modules):
            group = f.create_group(f"module_{module}")
            group["offset"], group["gain"], group["bad_pixels"] = offset[module], gain[module], bad[module]
    broken = {train for _, train in (*o.missing, *o.duplicate, *o.zero, *o.flagged, *o.empty)}
    complete = np.array([i not in broken for i in range(o.n_trains)])
    file = folder / _name(0, 0, options)
    return XfelTruth(file, constants, trains, pulses, complete, signal, pattern, bad)


def _name(module: int, sequence: int, options: XfelOptions) -> str:
    return f"{'RAW' if options.is_raw else 'CORR'}-R0001-AGIPD{module:02d}-S{sequence:05d}.h5"


def _write_file(
    folder: Path, which: tuple[int, int], mine: AnyArray, options: XfelOptions, model: tuple[AnyArray, ...]
) -> None:
    module, sequence = which
    trains, pulses, signal, pattern, offset, gain = model
    o = options
    order = [int(i) for i in mine if (module, int(i)) not in o.missing]
    order += [i for i in order if (module, i) in o.duplicate]
    if module in o.shuffled:
        order = order[::-1]
    ids = np.array([0 if (module, i) in o.zero else trains[i] for i in order], dtype=np.uint64)
    count = np.array([0 if (module, i) in o.empty else o.n_pulses for i in order], dtype=np.uint64)
    first = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.uint64) if order else count
    filled = [(i, t) for i, t, n in zip(order, ids, count, strict=True) if n]
    frames = np.array(
        [_frames(o, signal[i], pattern[module], offset[module], gain[module]) for i, _ in filled],
        dtype=np.uint16 if o.is_raw else np.float32,
    ).reshape(-1, *((2, *o.shape) if o.is_raw else o.shape))
    source = f"{DETECTOR}/DET/{module}CH0:xtdf"
    with h5py.File(folder / _name(module, sequence, options), "w") as f:
        f["METADATA/dataSources/dataSourceId"] = np.array([f"INSTRUMENT/{source}/image".encode()])
        f["METADATA/dataSources/root"] = np.array([b"INSTRUMENT"])
        f["METADATA/dataSources/deviceId"] = np.array([f"{source}/image".encode()])
        f["METADATA/dataFormatVersion"] = np.array([b"1.0"])
        f["INDEX/trainId"] = ids
        f["INDEX/flag"] = np.array([0 if (module, i) in o.flagged else 1 for i in order], dtype=np.int32)
        index = f.create_group(f"INDEX/{source}/image")
        index["first"] = first
        if o.old_index:
            index["last"] = (first + np.maximum(count, 1) - 1).astype(np.uint64)
            index["status"] = (count > 0).astype(np.uint32)
        else:
            index["count"] = count
        image = f.create_group(f"INSTRUMENT/{source}/image")
        n, cells = len(filled), np.arange(o.n_pulses, dtype=np.uint16)
        image["trainId"] = np.repeat(np.array([t for _, t in filled], dtype=np.uint64), o.n_pulses)
        image["pulseId"], image["cellId"] = np.tile(pulses, n), np.tile(cells, n)
        image["length"] = np.full(n * o.n_pulses, frames[0].nbytes if n else 0, dtype=np.uint32)
        packed = {"compression": "gzip", "compression_opts": o.gzip, "shuffle": True} if o.gzip else {}
        image.create_dataset(
            "data", data=frames, chunks=(1, *frames.shape[1:]), maxshape=(None, *frames.shape[1:]), **packed
        )


def _frames(
    o: XfelOptions, signal: AnyArray, pattern: AnyArray, offset: AnyArray, gain: AnyArray
) -> AnyArray:
    """The frames of one train of a module."""
    true = signal[:, np.newaxis, np.newaxis] * pattern
    if not o.is_raw:
        return true.astype(np.float32)
    counts = np.clip(np.round(offset + true / gain), 0, 65535).astype(np.uint16)
    return np.stack([counts, np.full_like(counts, 2500)], axis=1)
