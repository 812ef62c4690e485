"""Each facility's layout gives its frames, masks, geometry and header."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.nexus import (
    FramePositionUnknown,
    LinkMissing,
    MaskPerFrame,
    NexusFile,
    open_header,
    preview_image,
    read_flat_field,
    read_frame_stack,
    read_geometry,
    read_pixel_mask,
    read_pixel_masks,
    read_scanned_variables,
    read_value_limits,
)
from beamhub_reduction.pipeline.frames import frame_batches
from beamhub_reduction.pipeline.units import plan_frame_units
from beamhub_reduction.synthetic import (
    LayoutTruth,
    NxmxOptions,
    write_bliss_scan,
    write_dls_scan,
    write_ill_scan,
    write_jungfrau_run,
    write_maxiv_scan,
    write_nxmx_run,
    write_pulsed_header,
)

WRITERS: dict[str, Callable[[Path], LayoutTruth]] = {
    "bliss": write_bliss_scan,
    "dls": write_dls_scan,
    "ill": write_ill_scan,
    "jungfrau": write_jungfrau_run,
    "jungfrau modules": lambda folder: write_jungfrau_run(folder, own_axis=True),
    "max iv": write_maxiv_scan,
    "nxmx": write_nxmx_run,
}


def frames_of(path: Path, dataset: str | None = None) -> Any:
    with NexusFile(path) as nexus:
        stack = read_frame_stack(nexus, dataset)
    units = plan_frame_units(stack, weights=np.ones(stack.n_frames))
    batches = [b.data.copy() for u in units for b in frame_batches(u, shape=stack.shape, corrupt="fail")]
    return np.concatenate(batches)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_frame_and_the_mask_come_out_as_they_were_written(tmp_path: Path, name: str) -> None:
    truth = WRITERS[name](tmp_path / "scan")
    with NexusFile(truth.file) as nexus:
        stack = read_frame_stack(nexus)
        masked = read_pixel_mask(nexus, stack.detector, stack.shape)
    assert (stack.entry, stack.missing, stack.n_missing) == (truth.entry, (), 0)
    assert stack.dtype == truth.frames.dtype.str
    np.testing.assert_array_equal(frames_of(truth.file), truth.frames)
    np.testing.assert_array_equal(masked, truth.masked)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_headers_name_what_they_have_and_previews_show_it(tmp_path: Path, name: str) -> None:
    truth = WRITERS[name](tmp_path / "scan")
    header = open_header(truth.file, [tmp_path])
    assert header.detectors[0].shape == truth.frames.shape
    assert (header.title or "", header.n_frames) == (truth.title, len(truth.frames))
    assert header.entries == truth.others.get("entries", header.entries)
    assert preview_image(truth.file, [tmp_path]).__class__.__name__ == "ImagePreview"


def test_a_run_can_be_moved_and_an_entry_be_named(tmp_path: Path) -> None:
    truth = write_bliss_scan(tmp_path / "scan")
    (tmp_path / "scan").rename(tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / truth.file.name
    np.testing.assert_array_equal(frames_of(path, "/10.1"), truth.frames[:2])
    with NexusFile(path) as nexus:
        assert read_frame_stack(nexus, "/10.1").n_missing == 3
        columns = read_scanned_variables(nexus.node("/9.2"))
    assert [(c.name, c.units, c.values.size) for c in columns] == [("epoch", "s", 8)]


def test_scanned_variables_of_the_ill_keep_their_names(tmp_path: Path) -> None:
    truth = write_ill_scan(tmp_path)
    with NexusFile(truth.file) as nexus:
        found = {v.name: v.values for v in read_scanned_variables(nexus.node("/entry0"))}
    np.testing.assert_equal(found, truth.others["variables"])
    assert open_header(truth.file).run_number == "123456"


@pytest.mark.parametrize("tilt_deg", [0.0, 25.0])
def test_geometry_of_an_nxmx_master_is_where_its_module_is(tmp_path: Path, tilt_deg: float) -> None:
    truth = write_nxmx_run(tmp_path, options=NxmxOptions(tilt_deg=tilt_deg))
    with NexusFile(truth.file) as nexus:
        stack = read_frame_stack(nexus)
        geometry = read_geometry(nexus, stack.entry, stack.detector)
    names = ("distance_m", "poni1_m", "poni2_m", "pixel1_m", "pixel2_m", "wavelength_angstrom")
    np.testing.assert_allclose([getattr(geometry, n) for n in names], truth.place)
    turns = [geometry.rot1, geometry.rot2, geometry.rot3]
    np.testing.assert_allclose(np.abs(turns), [0, np.radians(tilt_deg), 0], atol=1e-12)


def test_links_to_files_that_were_never_needed_are_normal_and_others_are_not(tmp_path: Path) -> None:
    truth = write_nxmx_run(tmp_path)
    (tmp_path / "run_data_000003.h5").unlink()
    with NexusFile(truth.file) as nexus:
        stack = read_frame_stack(nexus)
    assert (stack.n_present, stack.n_missing) == (6, 1)
    assert stack.missing[0].target.startswith("run_data_000003.h5")
    (tmp_path / "run_data_000002.h5").rename(tmp_path / "gone")
    with NexusFile(truth.file) as nexus:
        assert read_frame_stack(nexus).n_present == 3


def test_numbers_of_images_place_what_lies_behind_a_missing_file(tmp_path: Path) -> None:
    truth = write_nxmx_run(tmp_path, options=NxmxOptions(extra_links=0))
    (tmp_path / "run_data_000002.h5").unlink()
    with NexusFile(truth.file) as nexus:
        stack = read_frame_stack(nexus)
        assert [(p.at, p.n_rows) for p in stack.pieces] == [(0, 3), (3, 3), (6, 1)]
    with h5py.File(tmp_path / "run_data_000003.h5", "a") as file:
        del file["entry/data/data"].attrs["image_nr_low"]
    with h5py.File(truth.file, "a") as file:
        del file["entry/instrument/detector/detectorSpecific/nimages"]
    with NexusFile(truth.file) as nexus, pytest.raises(FramePositionUnknown):
        read_frame_stack(nexus)


def test_limits_of_values_follow_the_depth_of_the_readout(tmp_path: Path) -> None:
    truth = write_nxmx_run(tmp_path, options=NxmxOptions(bits=16))
    with NexusFile(truth.file) as nexus:
        limits = read_value_limits(nexus, "/entry/instrument/detector", "<u4")
        assert (limits.lowest, limits.highest) == (0.0, 65534.0)
        np.testing.assert_array_equal(limits.is_blank(truth.frames[0]), truth.masked)
        signed = read_value_limits(nexus, "/entry/instrument/detector", "<i4")
        assert signed.is_blank(np.array([-2, -1, 0, 65535], np.int32)).tolist() == [True, True, False, True]
        assert read_flat_field(nexus, "/entry/instrument/detector", (20, 30)) is None
    with h5py.File(truth.file, "a") as file:
        file["entry/instrument/detector/flatfield_correction_applied"][()] = 0
    with NexusFile(truth.file) as nexus:
        flat = read_flat_field(nexus, "/entry/instrument/detector", (20, 30))
    assert flat is not None
    assert flat.shape == (20, 30)


def test_a_mask_for_each_frame_is_read_or_refused_by_name(tmp_path: Path) -> None:
    path = write_maxiv_scan(tmp_path).file
    masks = np.zeros((4, 9, 11), np.uint32)
    masks[2, 1, 1] = 16
    with h5py.File(path, "a") as file:
        file["entry/measurement/dut/pixel_mask"] = masks
        file["entry/measurement/dut/pixel_mask_1"] = np.eye(9, 11, dtype=np.uint8)
    with NexusFile(path) as nexus:
        found = read_pixel_masks(nexus, "/entry/measurement/dut", (9, 11))
        assert found.of_frames(2, 1)[0].sum() == 9
        assert found.of_frames(1, 2)[:, 1, 1].tolist() == [True, True]
        with pytest.raises(MaskPerFrame):
            read_pixel_mask(nexus, "/entry/measurement/dut", (9, 11))


@pytest.mark.parametrize("facility", ["ISIS", "SNS", "ESS"])
def test_headers_of_pulsed_sources_are_read(tmp_path: Path, facility: str) -> None:
    header = open_header(write_pulsed_header(tmp_path, facility=facility).file)
    assert (header.run_number, header.title) == ("4711", f"{facility} run")
    assert (header.instrument, header.sample, header.users) == (facility.title(), "V rod", ("A. Person",))
    assert header.experiment_identifier == "RB1"


def test_more_linked_files_than_descriptors_are_no_obstacle(tmp_path: Path) -> None:
    n_files = 150
    with h5py.File(tmp_path / "m.h5", "w") as master:
        group = master.create_group("entry/instrument/cam")
        for i in range(n_files):
            with h5py.File(tmp_path / f"p{i}.h5", "w") as part:
                part["data"] = np.full((1, 2, 2), i, np.uint16)
            group[f"data_{i:05d}"] = h5py.ExternalLink(f"p{i}.h5", "/data")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, n_open + 90), hard))
    try:
        frames = frames_of(tmp_path / "m.h5", "/entry/instrument/cam")
        header = open_header(tmp_path / "m.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert frames[:, 0, 0].tolist() == list(range(n_files))
    assert len(header.linked_files) == n_files


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("bliss", "scan0009/cam_0001.h5"),
        ("dls", "raw/i00-1_000001.h5"),
        ("jungfrau", "run_0001.JF07-2.h5"),
        ("max iv", "scan-0042_eiger.h5"),
    ],
)
def test_a_missing_source_of_each_layout_is_an_error(tmp_path: Path, name: str, lost: str) -> None:
    truth = WRITERS[name](tmp_path / name)
    (tmp_path / name / lost).unlink()
    with NexusFile(truth.file) as nexus, pytest.raises(LinkMissing, match="does not exist"):
        raise read_frame_stack(nexus).missing[0]
