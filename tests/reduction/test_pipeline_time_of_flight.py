"""Whole event runs: every event accounted for, peaks where they were planted."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from distributed import Client

from beamhub_reduction.cluster import connect
from beamhub_reduction.errors import BadParameter, CorruptChunk, NothingLeft
from beamhub_reduction.nexus import NoEvents
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic import Truth

pytestmark = pytest.mark.usefixtures("outside_session")


@pytest.fixture
def copied(tof_truth: Truth, tmp_path: Path) -> Path:
    """A copy of the run, to be broken."""
    return Path(shutil.copy(tof_truth.file, tmp_path / "run.nxs"))


def test_all_usable_events_are_used_and_pulses_counted(tof_truth: Truth, client: Client) -> None:
    result = open_run(tof_truth.file).time_of_flight(client=client, progress=silent)
    statistics = result.statistics
    assert statistics.counts_total == tof_truth.counts_total
    assert statistics.n_events == tof_truth.events
    assert statistics.n_events_masked == tof_truth.events - tof_truth.counts_total
    assert (statistics.n_pulses, statistics.n_empty_pulses) == (tof_truth.pulses, tof_truth.empty_pulses)
    assert statistics.n_pixels_masked == tof_truth.n_pixels_masked
    assert (statistics.n_events_unknown_id, statistics.n_events_outside) == (0, 0)
    charge = result.parameters["proton_charge_uC"]
    assert (result.curve.intensity * charge).sum() == pytest.approx(tof_truth.counts_total)
    assert result.signal.axes[0].units == "angstrom"


def test_peaks_lie_where_they_were_planted(tof_truth: Truth) -> None:
    result = open_run(tof_truth.file).time_of_flight(bins=600, d_range=(0.5, 4.0), progress=silent)
    d, intensity = result.curve.axis, result.curve.intensity
    strongest = max(zip(tof_truth.peak_weights, tof_truth.peaks, strict=True))[1]
    near = np.abs(d - strongest) < 0.02 * strongest
    assert d[near][np.argmax(intensity[near])] == pytest.approx(strongest, rel=0.01)


def test_any_number_of_workers_gives_the_same_bits(tof_truth: Truth) -> None:
    alone = open_run(tof_truth.file).time_of_flight(progress=silent).curve.intensity.tobytes()
    for workers in (1, 3):
        with connect(workers) as client:
            result = open_run(tof_truth.file).time_of_flight(client=client, progress=silent)
        assert result.curve.intensity.tobytes() == alone


def test_events_outside_a_given_range_are_counted_as_such(tof_truth: Truth) -> None:
    statistics = open_run(tof_truth.file).time_of_flight(d_range=(1.0, 2.0), progress=silent).statistics
    assert 0 < statistics.counts_total < tof_truth.counts_total
    assert statistics.counts_total + statistics.n_events_outside == tof_truth.counts_total
    with pytest.raises(BadParameter, match="d_range"):
        open_run(tof_truth.file).time_of_flight(d_range=(2.0, 1.0), progress=silent)


def test_without_a_charge_counts_stay_counts(copied: Path, tof_truth: Truth) -> None:
    with h5py.File(copied, "a") as f:
        del f["entry/DASlogs"], f["entry/proton_charge"]
    result = open_run(copied).time_of_flight(progress=silent)
    assert result.parameters["normalised_to"] is None
    assert result.curve.intensity.sum() == tof_truth.counts_total
    assert result.signal.units == "counts"


def test_a_corrupt_chunk_fails_by_name_or_its_events_are_counted(copied: Path, tof_truth: Truth) -> None:
    with h5py.File(copied) as f:
        dataset = f["entry/instrument/bank2/events/event_time_offset"]
        info, n_rows = dataset.id.get_chunk_info(0), min(len(dataset), dataset.chunks[0])
    with copied.open("r+b") as raw:
        raw.seek(info.byte_offset + 40)
        raw.write(b"\0" * 16)
    with pytest.raises(CorruptChunk) as caught:
        open_run(copied).time_of_flight(progress=silent)
    assert caught.value.dataset.endswith("bank2/events/event_time_offset")
    result = open_run(copied).time_of_flight(corrupt="skip", progress=silent)
    assert result.statistics.n_events_corrupt == n_rows
    statistics = result.statistics
    assert statistics.counts_total + statistics.n_events_masked + n_rows == tof_truth.events
    assert result.warnings


def test_ids_that_no_pixel_has_are_counted(copied: Path, tof_truth: Truth) -> None:
    with h5py.File(copied, "a") as f:
        f["entry/instrument/bank1/events/event_id"][:5] = 999_999
    assert open_run(copied).time_of_flight(progress=silent).statistics.n_events_unknown_id == 5


def test_a_run_whose_pixels_are_all_masked_has_nothing_left(copied: Path) -> None:
    with h5py.File(copied, "a") as f:
        for bank in ("bank1", "bank2", "bank3"):
            f[f"entry/instrument/{bank}/pixel_mask"][:] = 2
    with pytest.raises(NothingLeft, match="events"):
        open_run(copied).time_of_flight(progress=silent)


def test_a_file_of_frames_has_no_events(powder_truth: Truth) -> None:
    with pytest.raises(NoEvents):
        open_run(powder_truth.file).time_of_flight(progress=silent)
