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
    order. With `n_stages` a pixel of a raw run takes the next gain stage at every STAGE_STEP of intensity,
    and its gain value says which: an ADC value around thresholds of the constants, or the number of the stage
    itself (`stage_numbers`). Frames of `is_raw` runs are (2, ny, nx) uint16, analog and gain; others are
    (ny, nx) float32.
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
    n_stages: int = 1
    stage_numbers: bool = False
    n_bad_pixels: int = 20
    gzip: int = 1


@dataclass(frozen=True, slots=True)
class XfelTruth:
    """What was planted in a run.

    `file` is one file of it, `constants` the file of the cells' constants and `geometry` that of the pixels'
    `positions` (n_modules, ny, nx, 3), metres from the sample; `trains` and `pulses` are the
    ids. `complete` (n_trains,) says which trains all modules have. `signal` (n_trains, n_pulses) is the
    intensity of every pixel of a frame after correction, relative to `pattern` (n_modules, ny, nx).
    """

    file: Path
    constants: Path
    geometry: Path
    trains: AnyArray
    pulses: AnyArray
    complete: AnyArray
    signal: AnyArray
    pattern: AnyArray
    bad: AnyArray
    positions: AnyArray


@dataclass(frozen=True, slots=True)
class _Model:
    """What frames are made of; `offset`, `gain`, `threshold` are (n_modules, n_stages, n_cells, ny, nx)."""

    trains: AnyArray
    pulses: AnyArray
    signal: AnyArray
    pattern: AnyArray
    offset: AnyArray
    gain: AnyArray
    threshold: AnyArray


ENERGY_KEV, DISTANCE_M, PIXEL_M = 9.3, 0.2, 200e-6
STAGE_STEP = 150.0
GAIN_VALUE = 2500
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
    model = _build_model(options, (trains, pulses, signal, pattern), offset, gain, rng)
    for module in range(o.n_modules):
        for sequence in range(o.n_sequences):
            mine = np.arange(o.n_trains)[sequence :: o.n_sequences]
            _write_file(folder, (module, sequence), mine, options, model)
    constants = folder / "calibration" / "constants.h5"
    constants.parent.mkdir()
    _write_constants(constants, model, bad, options)
    positions = _positions(o)
    geometry = constants.with_name("geometry.h5")
    with h5py.File(geometry, "w") as f:
        f["photon_energy"] = ENERGY_KEV
        f["photon_energy"].attrs["units"] = "keV"
        for module in range(o.n_modules):
            f[f"module_{module}/positions"] = positions[module]
            f[f"module_{module}/positions"].attrs["units"] = "m"
    broken = {train for _, train in (*o.missing, *o.duplicate, *o.zero, *o.flagged, *o.empty)}
    complete = np.array([i not in broken for i in range(o.n_trains)])
    file = folder / _name(0, 0, options)
    return XfelTruth(file, constants, geometry, trains, pulses, complete, signal, pattern, bad, positions)


def _build_model(
    o: XfelOptions,
    drawn: tuple[AnyArray, AnyArray, AnyArray, AnyArray],
    offset: AnyArray,
    gain: AnyArray,
    rng: np.random.Generator,
) -> _Model:
    """Gain stages from the constants of the first one; each halves the counts again, and starts higher."""
    stage = np.arange(o.n_stages, dtype=np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    shape = (o.n_modules, o.n_stages - 1, *offset.shape[1:])
    threshold = np.zeros(shape, np.float32)
    if o.n_stages > 1:
        threshold = GAIN_VALUE + 1500 * stage[1:] - 750 + rng.uniform(-200, 200, shape).astype(np.float32)
    return _Model(*drawn, offset[:, np.newaxis] + 1000 * stage, gain[:, np.newaxis] * 2**stage, threshold)


def _write_constants(file: Path, model: _Model, bad: AnyArray, options: XfelOptions) -> None:
    """One module a group; without gain stages the tables have no axis for them."""
    o = options
    with h5py.File(file, "w") as f:
        for module in range(o.n_modules):
            group = f.create_group(f"module_{module}")
            offset, gain = model.offset[module], model.gain[module]
            masked = np.stack([bad[module]] * o.n_stages)
            for name, table in (("offset", offset), ("gain", gain), ("bad_pixels", masked)):
                group[name] = table if o.n_stages > 1 else table[0]
            if o.n_stages > 1 and not o.stage_numbers:
                group["threshold"] = model.threshold[module]


def _positions(o: XfelOptions) -> AnyArray:
    """Centres of pixels: modules beside each other, a gap between them, the beam in the middle of all."""
    (ny, nx), gap = o.shape, 3
    width = o.n_modules * (nx + gap) - gap
    y, x = np.meshgrid(np.arange(ny) - (ny - 1) / 2, np.arange(nx) - (width - 1) / 2, indexing="ij")
    away = np.full(o.shape, DISTANCE_M)
    left = [(x + m * (nx + gap)) * PIXEL_M for m in range(o.n_modules)]
    return np.array([np.stack([to_left, y * PIXEL_M, away], axis=-1) for to_left in left])


def _name(module: int, sequence: int, options: XfelOptions) -> str:
    return f"{'RAW' if options.is_raw else 'CORR'}-R0001-AGIPD{module:02d}-S{sequence:05d}.h5"


def _write_file(
    folder: Path, which: tuple[int, int], mine: AnyArray, options: XfelOptions, model: _Model
) -> None:
    module, sequence = which
    o, trains, pulses = options, model.trains, model.pulses
    order = [int(i) for i in mine if (module, int(i)) not in o.missing]
    order += [i for i in order if (module, i) in o.duplicate]
    if module in o.shuffled:
        order = order[::-1]
    ids = np.array([0 if (module, i) in o.zero else trains[i] for i in order], dtype=np.uint64)
    count = np.array([0 if (module, i) in o.empty else o.n_pulses for i in order], dtype=np.uint64)
    first = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.uint64) if order else count
    filled = [(i, t) for i, t, n in zip(order, ids, count, strict=True) if n]
    frames = np.array(
        [_frames(o, model, module, i) for i, _ in filled],
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


def _frames(o: XfelOptions, model: _Model, module: int, train: int) -> AnyArray:
    """The frames of one train of a module."""
    true: AnyArray = model.signal[train][:, np.newaxis, np.newaxis] * model.pattern[module]
    if not o.is_raw:
        corrected: AnyArray = true.astype(np.float32)
        return corrected
    stage = np.minimum(true // STAGE_STEP, o.n_stages - 1).astype(np.int64)
    offset, gain = (
        np.take_along_axis(table, stage[np.newaxis], axis=0)[0]
        for table in (model.offset[module], model.gain[module])
    )
    counts = np.clip(np.round(offset + true / gain), 0, 65535).astype(np.uint16)
    values = stage if o.stage_numbers else GAIN_VALUE + 1500 * stage
    return np.stack([counts, values.astype(np.uint16)], axis=1)
