"""XFEL frames whose pixels chose their gain, and curves over q from the positions of all modules' pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.kernels import available_paths, using_path
from beamhub_reduction.kernels.xfel import StoredFrame
from beamhub_reduction.kernels.xfel_cells import (
    CellSums,
    PixelBins,
    StageTables,
    add_cell_frames,
    clean_constants,
    take_off_cells,
)
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source
from beamhub_reduction.pipeline.xfel import XfelPulsesParameters, reduce_xfel_pulses
from beamhub_reduction.synthetic.xfel import ENERGY_KEV, XfelOptions, XfelTruth, write_xfel_run

SMALL = (48, 32)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> XfelTruth:
    """A run with three gain stages. Read-only."""
    options = XfelOptions(shape=SMALL, n_trains=4, n_stages=3)
    return write_xfel_run(tmp_path_factory.mktemp("xfel"), seed=5, options=options)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> XfelTruth:
    """A run with one gain stage; a train is incomplete. Read-only."""
    options = XfelOptions(shape=SMALL, n_trains=4, missing=((1, 2),))
    return write_xfel_run(tmp_path_factory.mktemp("xfel"), seed=5, options=options)


def reduced(truth: XfelTruth, threads: int = 1, **values: Any) -> Any:
    parameters = XfelPulsesParameters(constants=str(truth.constants), **values)
    return reduce_xfel_pulses(Source(str(truth.file)), parameters, Engine(threads=threads))


def bits(result: Any) -> list[bytes]:
    return [signal.values.tobytes() for signal in result.signals]


def expected_curves(truth: XfelTruth, edges: Any, *, solid_angle: bool) -> tuple[Any, Any]:
    """(mean, number) of planted values for each pulse and bin, by numpy.histogram."""
    x, y, z = truth.positions.reshape(-1, 3).T
    two_theta = np.arctan(np.hypot(x, y) / z)
    q = 4 * np.pi * ENERGY_KEV / 1.2398419843320026 * np.sin(two_theta / 2)
    scale = 1 / np.cos(two_theta) ** 3 if solid_angle else np.ones(q.size)
    totals, numbers = [], []
    for i_pulse in range(truth.pulses.size):
        good = (truth.bad[:, i_pulse] == 0).ravel()
        signal = truth.signal[truth.complete, i_pulse]
        values = truth.pattern.ravel() * scale * good * signal.sum()
        totals.append(np.histogram(q, edges, weights=values)[0])
        numbers.append(np.histogram(q, edges, weights=good.astype(np.int64))[0] * signal.size)
    n = np.array(numbers)
    with np.errstate(invalid="ignore"):
        return np.array(totals) / n, n


def test_each_pixel_is_corrected_with_the_constants_of_its_stage(staged: XfelTruth) -> None:
    result = reduced(staged)
    good = staged.bad == 0
    planted = np.einsum("tp,mpyx->tp", staged.signal, good * staged.pattern[:, np.newaxis])
    np.testing.assert_allclose(result.signals[1].values, planted, rtol=2e-3)
    per_pulse = np.where(good, staged.signal.sum(axis=0)[:, np.newaxis, np.newaxis], 0.0)
    mean = staged.pattern * per_pulse.sum(axis=1) / (good.sum(axis=1) * len(staged.signal))
    np.testing.assert_allclose(result.signals[0].values, mean, atol=2.5)  # counts are rounded, times the gain


def test_stages_may_be_numbers_and_an_unknown_number_is_no_value(tmp_path: Path) -> None:
    options = XfelOptions(shape=SMALL, n_trains=2, n_sequences=1, n_stages=3, stage_numbers=True)
    truth = write_xfel_run(tmp_path, seed=5, options=options)
    before = reduced(truth)
    with h5py.File(truth.file, "a") as f:
        data = f["INSTRUMENT/SPB_DET_AGIPD1M-1/DET/0CH0:xtdf/image/data"]
        frame = data[3]
        frame[1, 7, 9] = 3
        data[3] = frame
    after = reduced(truth)
    value = truth.signal[0, 3] * truth.pattern[0, 7, 9]
    lost = before.signals[1].values - after.signals[1].values
    assert lost[0, 3] == pytest.approx(value, abs=2.5)
    assert np.count_nonzero(lost) == 1


def test_stages_need_gain_values_and_fitting_tables(staged: XfelTruth, tmp_path: Path) -> None:
    corrected = write_xfel_run(tmp_path, seed=5, options=XfelOptions(shape=SMALL, n_trains=1, is_raw=False))
    values = XfelPulsesParameters(constants=str(staged.constants))
    with pytest.raises(BadParameter, match="no gain values"):
        reduce_xfel_pulses(Source(str(corrected.file)), values, Engine(threads=1))
    wrong = tmp_path / "wrong.h5"
    for name, shape in (("threshold", (3, 4, *SMALL)), ("gain", (3, 3, *SMALL)), ("offset", (9, 4, *SMALL))):
        wrong.write_bytes(staged.constants.read_bytes())
        with h5py.File(wrong, "a") as f:
            del f[f"module_0/{name}"]
            f[f"module_0/{name}"] = np.ones(shape)
        with pytest.raises(BadParameter, match=r"module_0|fewer"):
            reduce_xfel_pulses(
                Source(str(staged.file)), XfelPulsesParameters(constants=str(wrong)), Engine(threads=1)
            )


@pytest.mark.parametrize("solid_angle", [True, False])
def test_curves_of_all_modules_together_are_the_planted_ones(single: XfelTruth, solid_angle: bool) -> None:
    values = {"geometry": str(single.geometry), "q_range": (0.0, 3.0), "solid_angle": solid_angle}
    result = reduced(single, bins=12, **values)
    curve, number = result.signals[3:]
    mean, n = expected_curves(single, np.linspace(0, 3, 13), solid_angle=solid_angle)
    np.testing.assert_array_equal(number.values, n)
    np.testing.assert_allclose(curve.values, mean, rtol=1e-2)
    assert number.values.sum() == 3 * np.count_nonzero(single.bad == 0)
    assert bits(result)[:3] == bits(reduced(single))  # curves change nothing else


def test_curves_have_the_same_bits_for_any_path_and_number_of_threads(staged: XfelTruth) -> None:
    values = {"geometry": str(staged.geometry), "bins": 20, "q_range": (0.1, 1.5)}
    expected = bits(reduced(staged, **values))
    assert bits(reduced(staged, threads=2, **values)) == expected
    for path in available_paths():
        with using_path(path):
            assert bits(reduced(staged, **values)) == expected


def test_corrected_runs_have_curves_without_constants(tmp_path: Path) -> None:
    truth = write_xfel_run(tmp_path, seed=5, options=XfelOptions(shape=SMALL, n_trains=2, is_raw=False))
    values = XfelPulsesParameters(geometry=str(truth.geometry), bins=1, energy_kev=12.0, solid_angle=False)
    result = reduce_xfel_pulses(Source(str(truth.file)), values, Engine(threads=1))
    np.testing.assert_allclose(
        result.signals[3].values[:, 0], truth.signal.mean(axis=0) * truth.pattern.mean(), rtol=1e-6
    )


def test_a_geometry_that_does_not_fit_is_refused(single: XfelTruth, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="range"):
        reduced(single, geometry=str(single.geometry), q_range=(900.0, 901.0))
    with pytest.raises(BadParameter, match="grows"):
        reduced(single, geometry=str(single.geometry), q_range=(2.0, 1.0))
    other = tmp_path / "geometry.h5"
    other.write_bytes(single.geometry.read_bytes())
    with h5py.File(other, "a") as f:
        del f["photon_energy"]
    with pytest.raises(BadParameter, match="energy"):
        reduced(single, geometry=str(other))
    with h5py.File(other, "a") as f:
        del f["module_1"]
    with pytest.raises(BadParameter, match="positions"):
        reduced(single, geometry=str(other), energy_kev=9.0)


def draw_call(seed: int, n: int, n_stages: int, kind: str) -> tuple[Any, ...]:
    """Frames, cells, tables and bins of three cells and five frames."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 1 << 16, (5, 2 * n), dtype=np.uint16)
    if kind == "float":
        frames = [StoredFrame(p.astype(np.float32), n) for p in pixels]
        for f in frames:
            f.data[rng.integers(0, n, 2)] = [np.nan, -np.inf]
    elif kind == "shuffled":
        planes = pixels.view(np.uint8).reshape(5, 2 * n, 2).transpose(0, 2, 1).reshape(5, -1)
        frames = [StoredFrame(p.copy(), n, 2 * n) for p in planes]
    else:
        frames = [StoredFrame(p, n) for p in pixels]
    weight = np.where(rng.random((n_stages, 3, n)) < 0.1, 0, rng.uniform(0.5, 2, (n_stages, 3, n)))
    offset = rng.uniform(0, 5000, weight.shape).astype(np.float32)
    threshold = rng.uniform(0, 60000, (n_stages - 1, 3 if seed % 2 else 1, n)).astype(np.float32)
    tables = StageTables(
        weight.astype(np.float32), offset if n_stages > 1 or seed % 2 else None,
        threshold if n_stages > 1 else None,
    )  # fmt: skip
    bins = PixelBins(rng.integers(0, 8, n).astype(np.int32), rng.uniform(1, 2, n), 7)
    return frames, rng.integers(0, 3, 5), tables, bins


@given(
    seed=st.integers(0, 1 << 16), n=st.sampled_from([1, 15, 512, 700]), n_stages=st.integers(1, 3),
    kind=st.sampled_from(["plain", "shuffled", "float"]),
)  # fmt: skip
def test_every_path_gives_the_bits_of_pixels_taken_one_by_one(
    seed: int, n: int, n_stages: int, kind: str
) -> None:
    frames, cells, tables, bins = draw_call(seed, n, n_stages, kind)
    found = []
    for path in available_paths():
        sums = CellSums(np.full(n, 0.25), np.zeros(n, np.int64), np.zeros(n, np.int64))
        with using_path(path):
            r = add_cell_frames(frames, cells=cells, tables=tables, sums=sums, bins=bins)
        assert r.binned is not None
        assert r.n_binned is not None
        arrays = (sums.image, sums.n_good, sums.blank, r.totals, r.binned, r.n_binned)
        found.append([a.tobytes() for a in arrays if a is not None])
    assert all(f == found[0] for f in found)
    i, j = seed % n, seed % 5
    value, gain = float(frames[j].values[i]), float(frames[j].behind[i])
    of_cell = tables.threshold[:, cells[j] % tables.threshold.shape[1], i] if n_stages > 1 else np.zeros(0)
    stage = max((s + 1 for s, t in enumerate(of_cell) if gain > t), default=0)
    alone = CellSums(np.zeros(n), np.zeros(n, np.int64), None)
    add_cell_frames([frames[j]], cells=cells[j : j + 1], tables=tables, sums=alone)
    taken = 0.0 if tables.offset is None else float(tables.offset[stage, cells[j], i])
    weight = float(tables.weight[stage, cells[j], i])
    assert alone.image[i] == ((value - taken) * weight if np.isfinite(value) else 0.0)
    assert alone.n_good is not None
    assert alone.n_good[i] == (np.isfinite(value) and weight != 0)


def test_constants_are_cleaned_and_taken_off_with_the_same_bits_on_every_path() -> None:
    rng = np.random.default_rng(3)
    weight, offset = rng.uniform(0.5, 2, (2, 3, 700)).astype(np.float32)
    weight[0, :4], offset[1, :3] = [0, np.nan, np.inf, 1], [np.nan, np.inf, -np.inf]
    bad = (rng.random(weight.shape) < 0.1).astype(np.uint8)
    found = []
    for path in available_paths():
        w, o = weight.copy(), offset.copy()
        sums = CellSums(np.full(700, 1e6), np.zeros(700, np.int64), None)
        with using_path(path):
            dark = clean_constants(w, offset=o, bad=bad)
            take_off_cells(sums, n_of_cell=np.array([3, 0, 5]), weight=w, offset=o)
        assert sums.n_good is not None
        found.append([a.tobytes() for a in (w, o, dark, sums.image, sums.n_good)])
        np.testing.assert_allclose(dark, (w.astype(float) * o).sum(axis=1))
        assert np.isfinite(w).all()
        assert not w[bad != 0].any()
    assert all(f == found[0] for f in found)


def test_calls_that_reach_beyond_an_array_are_refused() -> None:
    frames, cells, tables, _ = draw_call(1, 15, 2, "plain")
    sums = CellSums(np.zeros(15), None, None)
    short = [StoredFrame(f.data[:20], 15) for f in frames]
    for given_frames, given_cells in ((short, cells), (frames, cells + 3), (frames[:2], cells)):
        with pytest.raises(ValueError, match=r"cells of|fewer than"):
            add_cell_frames(given_frames, cells=given_cells, tables=tables, sums=sums)
    with pytest.raises(ValueError, match="beyond the bins"):
        PixelBins(np.array([8], np.int32), np.ones(1), 7)
