"""Stacks, masks and geometry: what belongs together, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.nexus import (
    FramePositionUnknown,
    FramesDisagree,
    GeometryMissing,
    LinkMissing,
    MaskShapeWrong,
    NexusFile,
    NoFrames,
    UnitUnknown,
    read_frame_stack,
    read_geometry,
    read_monitor,
    read_pixel_mask,
)
from beamhub_reduction.synthetic import Truth

DETECTOR = "/1.1/instrument/camera"


def write_master(path: Path, *, planned: int | None = None, links: tuple[str, ...] = ()) -> Path:
    with h5py.File(path, "w") as f:
        for name, nx_class in (
            ("1.1", "NXentry"),
            ("1.1/instrument", "NXinstrument"),
            (DETECTOR, "NXdetector"),
        ):
            f.create_group(name).attrs["NX_class"] = nx_class
        for i, link in enumerate(links):
            f[f"{DETECTOR}/data_{i:04d}"] = h5py.ExternalLink(link, "/data")
        if planned is not None:
            f[f"{DETECTOR}/acq_parameters/acq_nb_frames"] = planned
    return path


def write_part(path: Path, n_frames: int, shape: tuple[int, int] = (3, 4), dtype: Any = np.uint32) -> None:
    with h5py.File(path, "w") as f:
        f["data"] = np.ones((n_frames, *shape), dtype)


def stack_of(path: Path) -> Any:
    with NexusFile(path) as nexus:
        return read_frame_stack(nexus)


def test_parts_are_joined_in_numeric_order_whatever_the_digits(tmp_path: Path) -> None:
    path = write_master(tmp_path / "m.h5")
    with h5py.File(path, "a") as f:
        for number in (10, 9, 100):
            write_part(tmp_path / f"p{number}.h5", number)
            f[f"{DETECTOR}/data_{number}"] = h5py.ExternalLink(f"p{number}.h5", "/data")
    assert [(p.at, p.n_rows) for p in stack_of(path).pieces] == [(0, 9), (9, 10), (19, 100)]


def test_the_first_entry_with_frames_counts(tmp_path: Path) -> None:
    path = write_master(tmp_path / "m.h5", planned=7)
    with h5py.File(path, "a") as f:
        f.copy("1.1", "10.1")
        f["10.1/instrument/camera/data"] = np.zeros((2, 3, 4), np.uint16)
        f.copy("1.1", "9.1")
        f["9.1/instrument/camera/data"] = np.zeros((5, 3, 4), np.uint16)
    stack = stack_of(path)
    assert (stack.entry, stack.n_present, stack.n_missing) == ("/9.1", 5, 2)


def test_a_missing_last_part_counts_as_planned_frames_that_are_not_there(tmp_path: Path) -> None:
    write_part(tmp_path / "p0.h5", 5)
    stack = stack_of(write_master(tmp_path / "m.h5", planned=8, links=("p0.h5", "gone.h5")))
    assert (stack.n_present, stack.n_missing) == (5, 3)
    assert stack.missing[0].target == "gone.h5:/data"


def test_a_missing_part_in_the_middle_needs_a_plan_to_place_the_rest(tmp_path: Path) -> None:
    write_part(tmp_path / "p0.h5", 5)
    write_part(tmp_path / "p2.h5", 2)
    links = ("p0.h5", "gone.h5", "p2.h5")
    stack = stack_of(write_master(tmp_path / "planned.h5", planned=11, links=links))
    assert [(p.at, p.n_rows) for p in stack.pieces] == [(0, 5), (5, 4), (9, 2)]
    assert (stack.n_present, stack.n_missing) == (7, 4)
    with pytest.raises(FramePositionUnknown) as caught:
        stack_of(write_master(tmp_path / "unplanned.h5", links=links))
    assert caught.value.missing == ("gone.h5:/data",)
    with pytest.raises(FramePositionUnknown):
        stack_of(write_master(tmp_path / "two.h5", planned=11, links=(*links, "gone-too.h5")))


def test_a_stack_whose_parts_are_all_missing_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(LinkMissing) as caught:
        stack_of(write_master(tmp_path / "m.h5", planned=4, links=("gone.h5",)))
    assert caught.value.target == "gone.h5:/data"


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "p0.h5", 1)
    write_part(tmp_path / "shape.h5", 1, (3, 5))
    write_part(tmp_path / "dtype.h5", 1, dtype=np.uint16)
    for other in ("shape.h5", "dtype.h5"):
        with pytest.raises(FramesDisagree):
            stack_of(write_master(tmp_path / "m.h5", links=("p0.h5", other)))


def test_an_unfinished_scan_alone_has_no_frames(tmp_path: Path) -> None:
    with pytest.raises(NoFrames, match=r"/1\.1"):
        stack_of(write_master(tmp_path / "m.h5", planned=4))


def test_mask_bits_above_the_sixteenth_do_not_mask_and_masks_are_joined(tmp_path: Path) -> None:
    path = write_master(tmp_path / "m.h5")
    first = np.zeros((3, 4), np.uint32)
    first[0, 0], first[0, 1], first[0, 2] = 1, 1 << 16, 1 << 31
    second = np.zeros((3, 4), np.int8)
    second[2, 3] = 16
    with h5py.File(path, "a") as f:
        f[f"{DETECTOR}/pixel_mask"], f[f"{DETECTOR}/pixel_mask_2"] = first, second
    with NexusFile(path) as nexus:
        masked = read_pixel_mask(nexus, DETECTOR, (3, 4))
        assert np.argwhere(masked).tolist() == [[0, 0], [2, 3]]
        with pytest.raises(MaskShapeWrong) as caught:
            read_pixel_mask(nexus, DETECTOR, (4, 3))
    assert caught.value.mask_shape == (3, 4)


def test_geometry_and_monitor_come_from_the_file(powder_truth: Truth) -> None:
    with NexusFile(powder_truth.file) as nexus:
        geometry = read_geometry(nexus, "/1.1", "/1.1/instrument/pilatus")
        monitor = read_monitor(nexus, "/1.1")
    assert geometry.pixel1_m == pytest.approx(172e-6)
    assert geometry.rot1 == 0
    assert monitor is not None
    assert (monitor.values.shape, monitor.nominal) == ((12,), 1e6)


def test_units_are_converted_and_a_centre_may_be_a_length(tmp_path: Path) -> None:
    path = write_master(tmp_path / "m.h5")
    fields = {
        f"{DETECTOR}/distance": (200.0, "mm"),
        f"{DETECTOR}/x_pixel_size": (75, "um"),
        f"{DETECTOR}/y_pixel_size": (0.1, "mm"),
        f"{DETECTOR}/beam_center_x": (10.0, "pixel"),
        f"{DETECTOR}/beam_center_y": (3.0, "mm"),
        "1.1/instrument/mono/energy": (12398.419843320026, "eV"),
    }
    with h5py.File(path, "a") as f:
        f.create_group("1.1/instrument/mono").attrs["NX_class"] = "NXmonochromator"
        for name, (value, units) in fields.items():
            f[name] = value
            f[name].attrs["units"] = units
    with NexusFile(path) as nexus:
        geometry = read_geometry(nexus, "/1.1", DETECTOR)
    assert geometry.distance_m == pytest.approx(0.2)
    assert (geometry.poni1_m, geometry.poni2_m) == (pytest.approx(3e-3), pytest.approx(750e-6))
    assert geometry.wavelength_angstrom == pytest.approx(1.0)
    with h5py.File(path, "a") as f:
        f[f"{DETECTOR}/distance"].attrs["units"] = "furlong"
    with NexusFile(path) as nexus, pytest.raises(UnitUnknown, match="furlong"):
        read_geometry(nexus, "/1.1", DETECTOR)


def test_every_missing_field_of_the_geometry_is_named(tmp_path: Path) -> None:
    with NexusFile(write_master(tmp_path / "m.h5")) as nexus, pytest.raises(GeometryMissing) as caught:
        read_geometry(nexus, "/1.1", DETECTOR)
    assert set(caught.value.fields) == {
        "distance", "x_pixel_size", "y_pixel_size", "wavelength", "beam_center_x", "beam_center_y",
    }  # fmt: skip
