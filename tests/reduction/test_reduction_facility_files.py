"""The reader meets real files of five facilities."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from beamhub_reduction.nexus import (
    Geometry,
    ImagePreview,
    LinkMissing,
    NexusFile,
    open_header,
    preview_image,
    read_default_plot,
    read_frame_stack,
    read_value_limits,
    written_prefix,
)
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run

pytestmark = [pytest.mark.facility_data, pytest.mark.usefixtures("outside_session")]

WITH_FRAMES = {
    "aps_agbehenate_saxs.h5": (1, 195, 487),
    "dls_k11_tomography_imaging.h5": (3201, 22, 26),
    "eiger4m_frame_bitshuffle.h5": (1, 2167, 2070),
    "sinq_focus_tof.h5": (1, 150, 713),
    "sls_stxm_image.h5": (1, 50, 50),
}
DANGLING = {
    "dls_i16_scan_dangling_links.nxs": 2,
    "dls_k11_tomography.nxs": 40,
    "dls_p45_dangling_links.nxs": 6,
}


@pytest.mark.parametrize("name", sorted(WITH_FRAMES))
def test_headers_and_previews_of_complete_files(facility_data: Path, name: str) -> None:
    header = open_header(facility_data / name, [facility_data])
    assert header.detectors[0].shape == WITH_FRAMES[name]
    assert header.missing_links == ()
    preview = preview_image(facility_data / name, [facility_data])
    assert isinstance(preview, ImagePreview)
    assert np.isfinite(preview.values).any()


@pytest.mark.parametrize("name", sorted(DANGLING))
def test_scans_whose_data_are_elsewhere_are_read_and_every_lost_link_named(
    facility_data: Path, name: str
) -> None:
    header = open_header(facility_data / name, [facility_data])
    assert len(header.missing_links) == DANGLING[name]
    assert all("does not exist" in link.reason for link in header.missing_links)
    assert header.n_frames == 0
    with pytest.raises(LinkMissing):
        preview_image(facility_data / name)


def test_what_the_files_say_of_themselves_is_read(facility_data: Path) -> None:
    saxs = open_header(facility_data / "aps_agbehenate_saxs.h5")
    assert saxs.users == ("Dale Schaefer",)
    assert saxs.wavelength_angstrom == pytest.approx(0.7336, abs=1e-3)
    tomography = open_header(facility_data / "dls_k11_tomography.nxs")
    assert tomography.experiment_identifier == "mg32775-1"
    focus = open_header(facility_data / "sinq_focus_tof.h5")
    assert focus.instrument == "FOCUS at SINQ"


def test_every_frame_of_a_real_scan_is_read_as_hdf5_reads_it(facility_data: Path) -> None:
    path = facility_data / "dls_k11_tomography_imaging.h5"
    geometry = Geometry(1.0, 0.01, 0.01, 1e-3, 1e-3, 1.0)
    result = open_run(path).azimuthal(bins=10, geometry=geometry, progress=silent)
    with h5py.File(path, locking=False) as f:
        expected = int(f["entry/detector/detector"][:].astype(np.int64).sum())
    assert result.statistics.counts_total == expected
    assert result.statistics.n_frames_read == 3201
    assert result.parameters["decoded_by"] == ["storage chunks"]


def test_gaps_of_a_real_eiger_frame_never_count(facility_data: Path) -> None:
    path = facility_data / "eiger4m_frame_bitshuffle.h5"
    geometry = Geometry(0.2, 0.08, 0.08, 75e-6, 75e-6, 1.0)
    result = open_run(path).azimuthal(bins=100, geometry=geometry, progress=silent)
    with h5py.File(path, locking=False) as f:
        frame = f["entry/data/data"][0].astype(np.int64)
    gaps = frame == 2**32 - 1
    assert result.statistics.counts_total == int(frame[~gaps].sum())
    assert result.statistics.n_values_blank == int(gaps.sum())
    assert np.nanmax(result.curve.intensity) < 1e5


def test_a_stack_of_one_frame_counts_as_one(facility_data: Path) -> None:
    with NexusFile(facility_data / "aps_agbehenate_saxs.h5") as nexus:
        assert read_frame_stack(nexus).n_present == 1


@pytest.mark.parametrize(
    ("name", "group", "signal", "axes"),
    [
        ("aps_agbehenate_saxs.h5", "/entry/data", "data", [[], []]),
        ("sinq_focus_tof.h5", "/entry1/bank1", "counts", [["theta"], ["time_binning"]]),
        ("sls_stxm_image.h5", "/entry1/control", "data", [["sample_y"], ["sample_x"]]),
    ],
)
def test_files_without_a_default_give_their_first_plot(
    facility_data: Path, name: str, group: str, signal: str, axes: list[list[str]]
) -> None:
    with NexusFile(facility_data / name, [facility_data]) as nexus:
        plot = read_default_plot(nexus)
    assert (plot.group, plot.signal.name, plot.explicit) == (group, signal, False)
    assert [[axis.field.name for axis in along] for along in plot.axes] == axes


@pytest.mark.parametrize("name", sorted(DANGLING))
def test_a_plot_behind_a_dangling_link_says_so(facility_data: Path, name: str) -> None:
    with NexusFile(facility_data / name) as nexus, pytest.raises(LinkMissing, match="does not exist"):
        read_default_plot(nexus)


@pytest.mark.parametrize("name", sorted(WITH_FRAMES))
def test_finished_files_are_written_to_their_last_frame(facility_data: Path, name: str) -> None:
    with NexusFile(facility_data / name) as nexus:
        stack = read_frame_stack(nexus)
        assert written_prefix(stack).n_present == stack.n_present == WITH_FRAMES[name][0]
        limits = read_value_limits(nexus, stack.detector, stack.dtype)
    assert (limits.highest == 2**32 - 2) == (stack.dtype == "<u4")
