"""XFEL runs: trains matched exactly, cells corrected, what is left out is counted."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.errors import BadParameter, CorruptChunk, NothingLeft
from beamhub_reduction.kernels import available_paths, using_path
from beamhub_reduction.kernels.xfel import StoredFrame, add_weighted_frame, add_weighted_frames
from beamhub_reduction.nexus.xfel import XfelRunInvalid, match_frames, read_xfel_run
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source
from beamhub_reduction.pipeline.xfel import XfelPulsesParameters, reduce_xfel_pulses
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic.xfel import XfelOptions, XfelTruth, write_xfel_run

SMALL = (64, 32)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> XfelTruth:
    """Two modules, eight trains of four pulses, two sequences, nothing wrong. Read-only."""
    return write_xfel_run(tmp_path_factory.mktemp("xfel"), seed=1, options=XfelOptions(shape=SMALL))


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> XfelTruth:
    """A run in which six trains are incomplete, each for its own reason. Read-only."""
    options = XfelOptions(
        shape=SMALL, n_trains=10, missing=((0, 1),), duplicate=((1, 2),), zero=((0, 3),), flagged=((1, 4),),
        empty=((0, 5), (1, 5)), shuffled=(1,), old_index=True,
    )  # fmt: skip
    return write_xfel_run(tmp_path_factory.mktemp("xfel"), seed=2, options=options)


def reduced(truth: XfelTruth, **values: Any) -> Any:
    return reduce_xfel_pulses(Source(str(truth.file)), XfelPulsesParameters(**values), Engine())


def expected_image(truth: XfelTruth, trains: Any) -> Any:
    """The mean of planted signal times pattern over the trains and the pulses whose cell is good."""
    signal = truth.signal[trains].sum(axis=0)
    good = truth.bad == 0
    weight = np.where(good, signal[np.newaxis, :, np.newaxis, np.newaxis], 0.0).sum(axis=1)
    n_good = good.sum(axis=1) * len(trains)
    return truth.pattern * weight / n_good


def test_the_mean_image_and_intensities_are_the_planted_ones(clean: XfelTruth) -> None:
    result = reduced(clean, constants=str(clean.constants))
    image, pulses, modules = result.signals
    np.testing.assert_allclose(image.values, expected_image(clean, np.arange(8)), atol=0.5)  # rounded counts
    np.testing.assert_array_equal(pulses.axes[0].values, clean.trains)
    np.testing.assert_array_equal(pulses.axes[1].values, clean.pulses)
    good = clean.bad == 0
    planted = np.einsum("tp,mpyx->tp", clean.signal, good * clean.pattern[:, np.newaxis])
    np.testing.assert_allclose(pulses.values, planted, rtol=1e-3)
    np.testing.assert_allclose(modules.values.sum(axis=0), pulses.values.mean(axis=0))
    assert result.statistics.n_frames_read == 8 * 4 * 2
    assert result.statistics.n_trains_used == 8


def test_only_trains_that_all_modules_have_count_and_the_others_are_named(troubled: XfelTruth) -> None:
    result = reduced(troubled, constants=str(troubled.constants))
    np.testing.assert_array_equal(result.signals[1].axes[0].values, troubled.trains[troubled.complete])
    np.testing.assert_allclose(
        result.signals[0].values, expected_image(troubled, np.flatnonzero(troubled.complete)), atol=0.5
    )
    assert result.parameters["left_out"] == {
        "flagged invalid": 1, "no frames": 2, "train id 0": 1, "train or pulse twice": 1,
        "pulses that not all modules have, trains": 4,
    }  # fmt: skip
    statistics = result.statistics
    assert (statistics.n_trains, statistics.n_trains_used, statistics.n_trains_incomplete) == (9, 5, 4)


def test_with_any_module_a_train_counts_where_it_is(troubled: XfelTruth) -> None:
    result = reduced(troubled, trains="any")
    assert result.statistics.n_trains_used == 9
    assert result.statistics.n_frames_read == (2 * 5 + 4) * 4
    assert np.isfinite(result.signals[1].values).all()


def test_corrected_files_need_no_constants_and_blank_values_are_left_out(tmp_path: Path) -> None:
    options = XfelOptions(shape=SMALL, is_raw=False, n_trains=3)
    truth = write_xfel_run(tmp_path, seed=3, options=options)
    with h5py.File(truth.file, "a") as f:
        data = next(iter(f["INSTRUMENT"].values()))["DET/0CH0:xtdf/image/data"]
        frame = data[0]
        frame[5, 6] = np.nan
        data[0] = frame
    result = reduced(truth)
    mean = (truth.signal.mean() * truth.pattern).astype(np.float64)
    without = (truth.signal.sum() - truth.signal[0, 0]) / (truth.signal.size - 1) * truth.pattern[0, 5, 6]
    assert result.signals[0].values[0, 5, 6] == pytest.approx(without, rel=1e-6)
    mean[0, 5, 6] = without
    np.testing.assert_allclose(result.signals[0].values, mean, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 1000, 4097])
def test_a_weighted_frame_has_the_same_bits_on_every_path(dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    frame = rng.uniform(0, 60000, n).astype(dtype)
    if n and dtype == np.float32:
        frame[rng.integers(0, n, 3)] = [np.nan, np.inf, -np.inf]
    weight = np.where(rng.random(n) < 0.1, 0, rng.uniform(0.5, 2, n)).astype(np.float32)
    found = []
    for path in available_paths():
        image, blank = np.full(n, 0.25), np.zeros(n, dtype=np.int64)
        with using_path(path):
            total = add_weighted_frame(frame, weight=weight, image=image, blank=blank)
        found.append((total, image.tobytes(), blank.tobytes()))
    assert len(set(found)) == 1
    assert found[0][0] == pytest.approx(np.where(np.isfinite(frame), frame, 0).astype(float) @ weight)


@pytest.mark.parametrize("n", [0, 15, 1000, 1024])
def test_frames_together_have_the_bits_of_frames_in_turn_shuffled_or_not(n: int) -> None:
    rng = np.random.default_rng(n)
    pixels = rng.integers(0, 1 << 16, (19, 2 * n), dtype=np.uint16)  # behind each frame its gain plane
    weights = rng.uniform(0.5, 2, (19, n)).astype(np.float32)
    planes = pixels.view(np.uint8).reshape(19, 2 * n, 2).transpose(0, 2, 1).reshape(19, -1)
    frames = [
        StoredFrame(planes[i].copy(), n, 2 * n) if i % 3 and n else StoredFrame(pixels[i], n)
        for i in range(19)
    ]
    image, blank = np.full(n, 0.25), np.zeros(n, dtype=np.int64)
    totals = [
        add_weighted_frame(p[:n], weight=w, image=image, blank=blank)
        for p, w in zip(pixels, weights, strict=True)
    ]
    for path in available_paths():
        together = np.full(n, 0.25)
        with using_path(path):
            found = add_weighted_frames(frames, weights=list(weights), image=together, blank=blank)
        assert (found, together.tobytes()) == (totals, image.tobytes())


def test_a_corrupt_frame_fails_by_name_or_its_pulse_is_left_out(tmp_path: Path) -> None:
    truth = write_xfel_run(tmp_path, seed=4, options=XfelOptions(shape=SMALL, n_trains=2, n_sequences=1))
    with h5py.File(truth.file) as f:
        data = next(iter(f["INSTRUMENT"].values()))["DET/0CH0:xtdf/image/data"]
        info = data.id.get_chunk_info(5)
    with truth.file.open("r+b") as raw:
        raw.seek(info.byte_offset + 30)
        raw.write(b"\xff" * 40)
    with pytest.raises(CorruptChunk) as caught:
        reduced(truth)
    assert caught.value.chunk[0] == 5
    result = reduced(truth, corrupt="skip")
    assert result.statistics.n_frames_corrupt == 1
    assert np.isnan(result.signals[1].values).sum() == 1
    assert result.warnings


def test_cells_without_constants_are_counted_and_wrong_constants_refused(
    clean: XfelTruth, tmp_path: Path
) -> None:
    few = tmp_path / "few.h5"
    with h5py.File(few, "w") as f:
        for module in range(2):
            f[f"module_{module}/offset"] = np.zeros((3, *SMALL))
    result = reduced(clean, constants=str(few))
    assert result.statistics.n_frames_without_constants == 8 * 2
    with h5py.File(few, "a") as f:
        del f["module_1/offset"]
    with pytest.raises(BadParameter, match="module_1"):
        reduced(clean, constants=str(few))


def test_what_is_no_run_is_refused(tmp_path: Path, clean: XfelTruth) -> None:
    other = tmp_path / "something.h5"
    h5py.File(other, "w").close()
    with pytest.raises(XfelRunInvalid, match="name"):
        read_xfel_run(str(other))
    empty = tmp_path / clean.file.name
    h5py.File(empty, "w").close()
    with pytest.raises(XfelRunInvalid, match="INSTRUMENT"):
        read_xfel_run(str(empty))
    truth = write_xfel_run(
        tmp_path / "run", seed=6, options=XfelOptions(shape=SMALL, n_trains=1, missing=((0, 0),))
    )
    with pytest.raises(NothingLeft):
        reduced(truth)


PEER = """
import sys
import numpy as np
from extra_data import RunDirectory
run = RunDirectory(sys.argv[1])
source = "SPB_DET_AGIPD1M-1/DET/{}CH0:xtdf"
pulses = [run[source.format(m), "image.pulseId"].ndarray().ravel() for m in (0, 1)]
image = run[source.format(0), "image.data"].ndarray()[:, 0].mean(axis=0)
np.savez(sys.argv[2], trains=run.train_ids, pulses=np.array(pulses), image=image)
"""


def test_extra_data_finds_the_same_trains_and_frames(clean: XfelTruth, tmp_path: Path) -> None:
    if find_spec("extra_data") is None:
        pytest.skip("EXtra-data is not installed")
    out = tmp_path / "theirs.npz"
    # In a process of its own: HDF5 opens no file twice with different locking, and their threads stay.
    words = [sys.executable, "-W", "ignore", "-c", PEER, str(clean.file.parent), str(out)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    theirs = np.load(out)
    ours, trains, _, _ = match_frames(read_xfel_run(str(clean.file)), require_all=True)
    assert theirs["trains"].tolist() == trains.tolist()
    for module in range(2):
        pulses = np.concatenate([f.pulse for f in ours.frames if f.module == module])
        assert sorted(theirs["pulses"][module].tolist()) == sorted(pulses.tolist())
    np.testing.assert_allclose(reduced(clean).signals[0].values[0], theirs["image"], rtol=1e-12)


@pytest.mark.usefixtures("outside_session")
def test_a_run_is_reduced_from_a_notebook_and_by_workers_with_the_same_bits(
    clean: XfelTruth, client: Any
) -> None:
    values = {"constants": str(clean.constants), "progress": lambda *_: None}
    alone = open_run(clean.file).xfel_pulses(**values)
    shared = open_run(clean.file).xfel_pulses(client=client, **values)
    for left, right in zip(alone.signals, shared.signals, strict=True):
        assert left.values.tobytes() == right.values.tobytes()
    assert alone.write(clean.file.parent / "out.h5").path
