"""Frames and matrix for own code: multiplied by SciPy they give what the engine gives."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from beamhub_reduction import open_run
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.run import Run
from beamhub_reduction.synthetic.saxs import SaxsTruth, write_saxs_runs


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> SaxsTruth:
    return write_saxs_runs(tmp_path_factory.mktemp("own"), seed=3, n_frames=7, beam_lost=5)


@pytest.fixture(scope="module")
def run(truth: SaxsTruth) -> Run:
    return open_run(truth.sample)


def integrate(run: Run, *, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = run.azimuthal_matrix(bins=40)
    low, high = matrix.valid
    rows, errors, numbers = [], [], []
    for part in run.frames(batch=batch):
        flat = part.data.reshape(len(part.data), -1).T.astype(np.float64)
        good = (flat >= low) & (flat <= high)
        norm = (matrix.shares @ (good * matrix.normalisation[:, np.newaxis])) * part.weights
        rows.append((matrix.shares @ np.where(good, flat, 0)) / norm)
        variance = matrix.shares.power(2) @ np.where(good, np.maximum(flat, 1), 0)
        errors.append(np.sqrt(variance) / norm)
        numbers.append(part.numbers)
    return np.hstack(rows).T, np.hstack(errors).T, np.concatenate(numbers)


def test_the_matrix_times_the_frames_is_the_engines_result(run: Run) -> None:
    curves, errors, numbers = integrate(run, batch=3)
    engine = run.azimuthal(bins=40, every=1, progress=lambda *_: None).signal
    np.testing.assert_array_equal(numbers, [0, 1, 2, 3, 4, 6])
    np.testing.assert_allclose(curves, engine.values[numbers], rtol=1e-12)
    assert engine.errors is not None
    np.testing.assert_allclose(errors, engine.errors[numbers], rtol=1e-7)  # the engine squares float32


def test_batches_may_be_kept_and_their_size_changes_nothing(run: Run) -> None:
    small = list(run.frames(batch=2))
    whole = np.concatenate([batch.data for batch in run.frames(batch=100)])
    np.testing.assert_array_equal(np.concatenate([batch.data for batch in small]), whole)
    assert whole.shape == (6, *run.frames().shape)
    assert run.frames().n_frames == 7


def test_own_code_becomes_a_product_with_the_counts_of_what_was_read(
    run: Run, truth: SaxsTruth, tmp_path: Path
) -> None:
    matrix, frames = run.azimuthal_matrix(bins=40), run.frames()
    total = sum(batch.data.sum(axis=0, dtype=np.int64) for batch in frames)
    curve = matrix.shares @ np.ravel(total).astype(np.float64)
    result = frames.result(
        [matrix.signal(curve)], step="own_sum", title="My sum", parameters={"bins": 40}, matrix=matrix
    )
    product = result.write(tmp_path)
    with h5py.File(product.path) as file:
        np.testing.assert_array_equal(file["entry/data/intensity"][()], curve)
        statistics = file["entry/process/statistics"]
        assert statistics["n_frames_read"][()] == truth.n_frames - 1
        assert statistics["n_frames_without_flux"][()] == 1
        assert statistics["n_pixels_masked"][()] == truth.n_pixels_masked
    assert result.evidence["inputs"]["n_chunks"] == truth.n_frames


def test_what_makes_no_sense_is_refused(run: Run) -> None:
    with pytest.raises(BadParameter, match="batch"):
        run.frames(batch=0)
    signal = run.azimuthal_matrix(bins=40).signal(np.zeros(40))
    with pytest.raises(NothingLeft, match="frames"):
        run.frames().result([signal], step="own", title="Own")
    with pytest.raises(BadParameter, match="step"):
        run.frames().result([signal], step="../own", title="Own")
    with pytest.raises(BadParameter, match="signals"):
        run.frames().result([], step="own", title="Own")
