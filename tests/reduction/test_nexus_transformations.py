"""Chains of transformations, logs and units mean what NeXus says, and put pixels where pyFAI sees them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction.nexus import (
    GeometryMissing,
    LinkLoop,
    LogInvalid,
    NexusFile,
    TransformationInvalid,
    UnitUnknown,
    read_geometry,
    read_log,
    read_matrices,
)
from beamhub_reduction.nexus.text import unit_factor
from examples import few

DETECTOR = "entry/instrument/det"


def add_step(f: h5py.File, path: str, value: Any, kind: str | None, vector: Any, **attributes: Any) -> None:
    f[path] = value
    if kind is not None:
        f[path].attrs["transformation_type"] = kind
    f[path].attrs["vector"] = vector
    for name, attribute in attributes.items():
        f[path].attrs[name] = attribute


def begin(path: Path) -> h5py.File:
    f = h5py.File(path, "w")
    for name, nx_class in (
        ("entry", "NXentry"),
        ("entry/instrument", "NXinstrument"),
        (DETECTOR, "NXdetector"),
        (f"{DETECTOR}/transformations", "NXtransformations"),
        ("entry/instrument/beam", "NXbeam"),
    ):
        f.create_group(name).attrs["NX_class"] = nx_class
    f["entry/instrument/beam/incident_wavelength"] = 1.0
    f["entry/instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"
    return f


def matrices_of(path: Path, node: str = f"/{DETECTOR}") -> np.ndarray[Any, Any]:
    with NexusFile(path) as nexus:
        return read_matrices(nexus.node(node))


def test_the_last_step_of_a_chain_acts_last(tmp_path: Path) -> None:
    with begin(tmp_path / "a.h5") as f:
        f[f"{DETECTOR}/depends_on"] = "transformations/height"
        base = f"{DETECTOR}/transformations"
        add_step(f, f"{base}/height", 2.0, "translation", [0, 5, 0], units="mm", depends_on="arm")
        add_step(
            f, f"{base}/arm", 90.0, "rotation", [0, 0, 2.0], units="deg", offset=[1, 0, 0],
            offset_units="cm", depends_on=f"/{base}/pure",
        )  # fmt: skip
        add_step(f, f"{base}/pure", np.nan, None, [0, 0, 1], depends_on=".")
    moved = matrices_of(tmp_path / "a.h5")[0] @ [0, 0, 0, 1]
    np.testing.assert_allclose(moved[:3], [0.01 - 0.002, 0, 0], atol=1e-12)


def test_positions_per_frame_logs_and_nan_are_kept(tmp_path: Path) -> None:
    with begin(tmp_path / "a.h5") as f:
        f[DETECTOR].attrs["depends_on"] = f"/{DETECTOR}/transformations/z"
        base = f"{DETECTOR}/transformations"
        add_step(f, f"{base}/z", [1.0, np.nan, 3.0], "translation", [0, 0, 1], units="m", depends_on="log")
        log = f.create_group(f"{base}/log")
        log.attrs.update(
            NX_class="NXlog", transformation_type="translation", vector=[1.0, 0, 0], depends_on="."
        )
        log["value"], log["time"] = np.array([5.0]), np.array([0.0])
        log["value"].attrs["units"], log["time"].attrs["units"] = "mm", "s"
    found = matrices_of(tmp_path / "a.h5")
    assert found.shape == (3, 4, 4)
    np.testing.assert_allclose(found[[0, 2], :3, 3], [[0.005, 0, 1], [0.005, 0, 3]])
    assert np.isnan(found[1, 2, 3])


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"depends_on": "x"}, LinkLoop),
        ({"depends_on": "nowhere"}, TransformationInvalid),
        ({"vector": [0, 0, 0]}, TransformationInvalid),
        ({"vector": [1, 2]}, TransformationInvalid),
        ({"transformation_type": "shear"}, TransformationInvalid),
        ({"units": "furlong"}, UnitUnknown),
        ({"offset": [1, 0, 0], "offset_units": "deg"}, UnitUnknown),
    ],
)
def test_a_chain_that_makes_no_sense_says_why(
    tmp_path: Path, attributes: dict[str, Any], error: type[Exception]
) -> None:
    with begin(tmp_path / "a.h5") as f:
        f[f"{DETECTOR}/depends_on"] = "transformations/x"
        add_step(f, f"{DETECTOR}/transformations/x", 1.0, "translation", [1, 0, 0], units="m", depends_on=".")
        f[f"{DETECTOR}/transformations/x"].attrs.update(attributes)
    with pytest.raises(error, match="transformations/x"):
        matrices_of(tmp_path / "a.h5")


def write_module(path: Path, turns: list[tuple[float, tuple[float, ...]]], directions: Any) -> None:
    """A detector of 75 x 150 um pixels (fast, slow) on an arm with these turns (degrees, axis)."""
    (fast, slow), offset = directions, [0.02, 0.03, 0.0]
    with begin(path) as f:
        base = f"/{DETECTOR}/transformations"
        f[f"{DETECTOR}/depends_on"] = f"{base}/z"
        following = "."
        for i, (angle, axis) in enumerate(turns):
            add_step(f, f"{base}/r{i}", angle, "rotation", axis, units="deg", depends_on=following)
            following = f"{base}/r{i}"
        add_step(f, f"{base}/z", 0.2, "translation", [0, 0, 1], units="m", depends_on=following)
        module = f.create_group(f"{DETECTOR}/module")
        module.attrs["NX_class"] = "NXdetector_module"
        where = f"/{DETECTOR}/module/module_offset"
        add_step(f, where, 1.0, "translation", offset, units="m", depends_on=f"{base}/z")
        f[where][()] = float(np.linalg.norm(offset))
        for name, vector, size in (("fast", fast, 0.075), ("slow", slow, 0.15)):
            path_of = f"/{DETECTOR}/module/{name}_pixel_direction"
            add_step(f, path_of, size, "translation", vector, units="mm", depends_on=where)


def two_theta(geometry: Any, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    integrator = AzimuthalIntegrator(
        dist=geometry.distance_m, poni1=geometry.poni1_m, poni2=geometry.poni2_m,
        rot1=geometry.rot1, rot2=geometry.rot2, rot3=geometry.rot3,
        detector=Detector(pixel1=geometry.pixel1_m, pixel2=geometry.pixel2_m, max_shape=shape),
    )  # fmt: skip
    z, y, x = integrator.calc_pos_zyx(corners=False)
    return np.stack([np.broadcast_to(np.asarray(part), shape) for part in (x, y, z)], axis=-1)


@few(12)
@given(
    turns=st.lists(
        st.tuples(
            st.floats(-40, 40), st.sampled_from([(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (1.0, 2.0, 3.0)])
        ),
        max_size=3,
    ),
    directions=st.sampled_from(
        [((-1, 0, 0), (0, -1, 0)), ((1, 0, 0), (0, -1, 0)), ((0, 1, 0), (1, 0, 0)), ((1, 0, 0), (0, 1, 0))]
    ),
)
def test_pixels_of_a_tilted_detector_are_where_pyfai_sees_them(
    tmp_path_factory: pytest.TempPathFactory, turns: list[Any], directions: Any
) -> None:
    path = tmp_path_factory.mktemp("tilt") / "a.h5"
    write_module(path, turns, directions)
    with NexusFile(path) as nexus:
        geometry = read_geometry(nexus, "/entry", f"/{DETECTOR}")
        frame = read_matrices(nexus.node(f"/{DETECTOR}"))[0]
    shape = (4, 5)
    expected = np.zeros((*shape, 3))
    for i, j in itertools.product(*(range(n) for n in shape)):
        local = np.array([0.02, 0.03, 0.0]) + 75e-6 * (j + 0.5) * np.array(directions[0])
        local = local + 150e-6 * (i + 0.5) * np.array(directions[1])
        expected[i, j] = (frame @ [*local, 1.0])[:3]
    found = two_theta(geometry, shape)
    # pyFAI's axes 1 and 2 may point either way; the beam is common, and so is what is vertical.
    np.testing.assert_allclose(found[..., 2], expected[..., 2], atol=1e-9)
    np.testing.assert_allclose(np.abs(found[..., 1]), np.abs(expected[..., 1]), atol=1e-9)
    np.testing.assert_allclose(np.abs(found[..., 0]), np.abs(expected[..., 0]), atol=1e-9)


def test_a_detector_across_the_beam_has_no_rotations(tmp_path: Path) -> None:
    write_module(tmp_path / "a.h5", [], ((-1, 0, 0), (0, -1, 0)))
    with NexusFile(tmp_path / "a.h5") as nexus:
        geometry = read_geometry(nexus, "/entry", f"/{DETECTOR}")
    np.testing.assert_allclose([geometry.rot1, geometry.rot2, geometry.rot3], 0, atol=1e-12)
    np.testing.assert_allclose([geometry.poni1_m, geometry.poni2_m, geometry.distance_m], [0.03, 0.02, 0.2])


def test_a_turned_detector_whose_pixels_nobody_placed_is_refused(tmp_path: Path) -> None:
    with begin(tmp_path / "a.h5") as f:
        f[f"{DETECTOR}/depends_on"] = "transformations/arm"
        base = f"{DETECTOR}/transformations"
        add_step(f, f"{base}/arm", 10, "rotation", [0, 1, 0], units="deg", depends_on=".")
        f[f"{DETECTOR}/distance"] = 1.0
    with NexusFile(tmp_path / "a.h5") as nexus, pytest.raises(GeometryMissing) as caught:
        read_geometry(nexus, "/entry", f"/{DETECTOR}")
    assert "fast_pixel_direction" in caught.value.fields


def test_a_log_gives_the_last_reading_or_goes_straight_between_two(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["log/value"] = [30.0, 10.0, 20.0, 99.0]
        f["log/time"] = [2000.0, 0.0, 1000.0, np.nan]
        f["log/time"].attrs.update(units="ms", start="2026-03-01T08:00:00Z")
        f["log/value"].attrs["units"] = "K"
    with NexusFile(tmp_path / "a.h5") as nexus:
        log = read_log(nexus.node("/log"))
    assert (log.units, log.start) == ("K", datetime(2026, 3, 1, 8, tzinfo=UTC))
    times = np.array([-1, 0, 500_000_000, 1_000_000_000, 9_000_000_000])
    np.testing.assert_array_equal(log.at(times), [np.nan, 10, 10, 20, 30])
    np.testing.assert_array_equal(log.at(times, how="linear"), [np.nan, 10, 15, 20, 30])


def test_integer_times_stay_exact_to_the_nanosecond(tmp_path: Path) -> None:
    now = 1_772_352_000_123_456_789
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["log/value"], f["log/time"] = [1, 2], np.array([now, now + 1])
        f["log/time"].attrs["units"] = "ns"
        f["short/value"], f["short/time"] = [1, 2], [0.0]
    with NexusFile(tmp_path / "a.h5") as nexus:
        assert read_log(nexus.node("/log")).time_ns.tolist() == [now, now + 1]
        with pytest.raises(LogInvalid, match="2 values for 1 times"):
            read_log(nexus.node("/short"))


@pytest.mark.parametrize(
    ("units", "wanted", "factor"),
    [
        ("", "m", 1.0), ("NX_LENGTH", "m", 1.0), ("NX_ANGLE", "rad", np.pi / 180), ("mm", "m", 1e-3),
        (" Degrees ", "rad", np.pi / 180), ("microsecond", "s", 1e-6), ("us", "s", 1e-6), ("Å", "m", 1e-10),
        ("meV", "keV", 1e-6), ("MeV", "keV", 1e3), ("eV", "keV", 1e-3), ("hour", "s", 3600.0),
        ("furlong", "m", None), ("deg", "m", None), ("J", "keV", 1 / 1.602176634e-16),
    ],
)  # fmt: skip
def test_units_have_one_meaning(units: str, wanted: str, factor: float | None) -> None:
    assert unit_factor(units, wanted) == (None if factor is None else pytest.approx(factor))
