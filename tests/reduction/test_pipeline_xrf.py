"""Whole fluorescence maps: exact counts, dead time, every layout, bad files."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from distributed import Client

from beamhub_reduction import kernels
from beamhub_reduction.errors import BadParameter, CorruptChunk
from beamhub_reduction.nexus import NexusFile
from beamhub_reduction.nexus.scan_errors import (
    CalibrationMissing,
    DeadTimeMissing,
    NoSpectra,
    ScanArrayWrong,
)
from beamhub_reduction.nexus.xrf import read_scan_axes
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic.xrf import GAIN_KEV, OFFSET_KEV, XrfOptions, XrfTruth, write_xrf_map

pytestmark = pytest.mark.usefixtures("outside_session")
ROIS = {"Ca": (3.4, 3.95), "Fe": (6.2, 6.6), "Cu": (7.8, 8.3)}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> XrfTruth:
    """A map of two elements. Read-only."""
    return write_xrf_map(tmp_path_factory.mktemp("xrf"), seed=1)


@pytest.fixture
def copied(truth: XrfTruth, tmp_path: Path) -> Path:
    """A copy of the map, to be broken."""
    return Path(shutil.copy(truth.file, tmp_path / "map.nxs"))


def expected_map(
    truth: XrfTruth, roi: str, *, corrected: bool = True
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    inside = (truth.energies_keV >= ROIS[roi][0]) & (truth.energies_keV < ROIS[roi][1])
    counts = truth.spectra[..., inside].sum(axis=3, dtype=np.int64)
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = (
        counts * (truth.factors if corrected else 1)
    ).sum(axis=0)
    return values


@pytest.mark.parametrize(
    "options",
    [
        XrfOptions(),
        XrfOptions(layout="points", dead_time="rates"),
        XrfOptions(layout="elements", dead_time="fraction", dtype=">u2"),
        XrfOptions(shape=(1, 1), n_elements=1, dtype="<f4"),
    ],
)
def test_every_layout_gives_the_planted_maps(options: XrfOptions, tmp_path: Path) -> None:
    truth = write_xrf_map(tmp_path, seed=2, options=options)
    result = open_run(truth.file).xrf_map(ROIS, shape=options.shape, normalise=False, progress=silent)
    for signal, roi in zip(result.signals, ROIS, strict=False):
        assert signal.name == roi
        np.testing.assert_allclose(signal.values, expected_map(truth, roi), rtol=1e-12)
    assert result.statistics.counts_total == truth.spectra.sum(dtype=np.int64)
    assert result.statistics.n_spectra_read == truth.spectra[..., 0].size
    spectrum, highest = result.signals[-2:]
    np.testing.assert_array_equal(spectrum.values, truth.spectra.sum(axis=(0, 1, 2), dtype=np.int64))
    np.testing.assert_array_equal(highest.values, truth.spectra.max(axis=(0, 1, 2)))
    np.testing.assert_allclose(spectrum.axes[0].values, truth.energies_keV)
    assert result.signal.axes[1].units == "um"


def test_the_lines_follow_what_was_planted(truth: XrfTruth) -> None:
    result = open_run(truth.file).xrf_map(ROIS, background=15, progress=silent)
    for signal, roi in zip(result.signals, ROIS, strict=False):
        ratio = signal.values / signal.values.mean() / truth.amounts[roi]
        assert signal.errors is not None
        sigma = signal.errors / signal.values
        assert (np.abs(ratio - 1) < 5 * sigma + 0.05).all()


def test_counts_without_dead_time_are_integers(truth: XrfTruth) -> None:
    result = open_run(truth.file).xrf_map(ROIS, dead_time="off", normalise=False, progress=silent)
    np.testing.assert_array_equal(result.signal.values, expected_map(truth, "Ca", corrected=False))
    assert result.signal.errors is not None
    np.testing.assert_allclose(result.signal.errors, np.sqrt(result.signal.values))


def test_the_monitor_divides(truth: XrfTruth) -> None:
    plain = open_run(truth.file).xrf_map(ROIS, normalise=False, progress=silent)
    normalised = open_run(truth.file).xrf_map(ROIS, progress=silent)
    expected = plain.signal.values * truth.monitor.mean() / truth.monitor
    np.testing.assert_allclose(normalised.signal.values, expected, rtol=1e-12)


def test_workers_paths_and_units_of_the_caller_give_the_same_bits(truth: XrfTruth, client: Client) -> None:
    run = open_run(truth.file)
    alone = [signal.values.tobytes() for signal in run.xrf_map(ROIS, progress=silent).signals]
    shared = run.xrf_map(ROIS, client=client, progress=silent)
    assert [signal.values.tobytes() for signal in shared.signals] == alone
    with kernels.using_path("numpy"):
        plain = run.xrf_map(ROIS, progress=silent)
    assert [signal.values.tobytes() for signal in plain.signals] == alone
    in_ev = run.xrf_map({k: (a * 1e3, b * 1e3) for k, (a, b) in ROIS.items()}, roi_unit="eV", progress=silent)
    assert [signal.values.tobytes() for signal in in_ev.signals] == alone
    channels = {name: tuple(c) for name, c in shared.parameters["channels"].items()}
    by_channel = run.xrf_map(channels, roi_unit="channel", progress=silent)
    assert [signal.values.tobytes() for signal in by_channel.signals] == alone


def test_a_calibration_of_the_caller_replaces_the_files(copied: Path, truth: XrfTruth) -> None:
    with h5py.File(copied, "a") as f:
        for i in range(2):
            del f[f"entry/instrument/mca_det{i}/energy"]
    run = open_run(copied)
    with pytest.raises(CalibrationMissing):
        run.xrf_map(ROIS, progress=silent)
    given = run.xrf_map(ROIS, calibration=(OFFSET_KEV, GAIN_KEV), normalise=False, progress=silent)
    np.testing.assert_allclose(given.signal.values, expected_map(truth, "Ca"))
    with h5py.File(copied, "a") as f:
        for i in range(2):
            f[f"entry/instrument/mca_det{i}/calibration"] = [OFFSET_KEV, GAIN_KEV, 0.0]
    assert (
        run.xrf_map(ROIS, normalise=False, progress=silent).signal.values.tobytes()
        == given.signal.values.tobytes()
    )


def test_what_is_missing_or_wrong_is_named(copied: Path) -> None:
    run = open_run(copied)
    with pytest.raises(BadParameter, match="rois"):
        run.xrf_map({"far": (50.0, 60.0)}, progress=silent)
    with pytest.raises(BadParameter, match="gain"):
        run.xrf_map(ROIS, calibration=(0.0, -1.0), progress=silent)
    with pytest.raises(ScanArrayWrong, match="7 x 7"):
        run.xrf_map(ROIS, shape=(7, 7), progress=silent)
    with h5py.File(copied, "a") as f:
        f["entry/instrument/mca_det1/live_time"][2, 3] = 0
    result = run.xrf_map(ROIS, progress=silent)
    assert np.isnan(result.signal.values[2, 3])
    assert np.isfinite(np.delete(result.signal.values.ravel(), 2 * 8 + 3)).all()
    assert result.statistics.n_spectra_without_live_time == 1
    with h5py.File(copied, "a") as f:
        del f["entry/instrument/mca_det1/live_time"]
    with pytest.raises(DeadTimeMissing) as missing:
        run.xrf_map(ROIS, progress=silent)
    assert missing.value.node.startswith("/entry/instrument/mca_det1")
    assert {"live_time", "icr"} <= set(missing.value.fields)


def test_a_corrupt_row_fails_by_name_or_is_nan_and_counted(copied: Path) -> None:
    with h5py.File(copied) as f:
        info = f["entry/instrument/mca_det0/data"].id.get_chunk_info_by_coord((2, 0, 0))
    with copied.open("r+b") as raw:
        raw.seek(info.byte_offset + 40)
        raw.write(b"\0" * 16)
    run = open_run(copied)
    with pytest.raises(CorruptChunk):
        run.xrf_map(ROIS, progress=silent)
    result = run.xrf_map(ROIS, corrupt="skip", progress=silent)
    assert np.isnan(result.signal.values[2]).all()
    assert np.isfinite(np.delete(result.signal.values, 2, axis=0)).all()
    assert (result.statistics.n_spectra_corrupt, result.statistics.n_spectra_read) == (8, 88)
    assert result.warnings


def test_the_product_holds_a_map_for_each_region(truth: XrfTruth, tmp_path: Path) -> None:
    product = open_run(truth.file).xrf_map(ROIS, progress=silent).write(tmp_path / "out.h5")
    with h5py.File(product.path) as f:
        assert f["entry/data"].attrs["signal"] == "Ca"
        assert f["entry/data/Fe"].shape == (6, 8)
        assert f["entry/sum_spectrum/energy"].attrs["units"] == "keV"


@pytest.mark.facility_data
def test_a_real_scanning_microscope_has_positions_but_no_spectra(facility_data: Path) -> None:
    path = facility_data / "sls_stxm_image.h5"
    with pytest.raises(NoSpectra):
        open_run(path).xrf_map(ROIS, progress=silent)
    with NexusFile(path) as nexus:
        y, x = read_scan_axes(nexus.entries()[0], (50, 50))
    assert (y.name, x.name) == ("sample_y", "sample_x")
    assert (np.diff(x.values) > 0).all()
