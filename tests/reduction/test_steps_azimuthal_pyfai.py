"""pyFAI's numbers for every option: intensity to 1e-6, uncertainty to 1e-5 (that is 2e-5 of the variance)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from pyFAI.detectors import Detector, detector_factory
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.steps.azimuthal import AzimuthalAccumulator, azimuthal_curves
from beamhub_reduction.steps.azimuthal_matrix import (
    SLIVER,
    AzimuthalMatrix,
    Binning,
    Corrections,
    bin_sums,
    build_azimuthal_matrix,
    load_poni,
    without_slivers,
)

SHAPE = (48, 37)
MASK = np.zeros(SHAPE, dtype=np.bool_)
MASK[20:23] = True
RANDOM = np.random.default_rng(11)
DARK = RANDOM.uniform(0, 0.4, SHAPE)
FLAT = RANDOM.uniform(0.8, 1.2, SHAPE)
FRAME = RANDOM.poisson(0.8, SHAPE).astype(np.uint32) * RANDOM.integers(1, 60, SHAPE).astype(np.uint32)
ANY = {"intensity": 1e-6, "sem": 1e-5}


def integrator(*, tilted: bool = False) -> AzimuthalIntegrator:
    rotations = (0.21, -0.13, 0.4) if tilted else (0, 0, 0)
    detector = Detector(pixel1=1e-3, pixel2=1.1e-3, max_shape=SHAPE)
    return AzimuthalIntegrator(0.1, 21.3e-3, 16.8e-3, *rotations, detector=detector, wavelength=1e-10)


def ours(matrix: AzimuthalMatrix, frames: Any, *, every: int | None = 1, weight: float = 1.0) -> Any:
    """(intensity, uncertainty) of all groups."""
    taken = AzimuthalAccumulator(matrix, every=every, whole=(0, len(frames)), floor=1.0)
    numbers = np.arange(len(frames))
    taken.add_frames(frames, weights=np.full(len(frames), weight), numbers=numbers)
    n_groups = 1 if every is None else -(-len(frames) // every)
    return azimuthal_curves(matrix, sums=taken.sums(), n_groups=n_groups)


def assert_parity(found: Any, expected: Any, count: Any) -> None:
    """Equal where pyFAI has pixels; where it has none, or slivers of them, we say NaN."""
    intensity, errors = found
    filled = np.asarray(count) >= SLIVER
    assert filled.any()
    np.testing.assert_allclose(intensity[0][filled], expected.intensity[filled], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(errors[0][filled], expected.sem[filled], rtol=1e-5)
    assert np.isnan(intensity[0][~filled]).all()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"unit": "q_A^-1"},
    {"unit": "2th_deg"},
    {"unit": "2th_rad"},
    {"tilted": True},
    {"solid_angle": False},
    {"polarisation": 0.95},
    {"polarisation": -0.3, "tilted": True},
    {"dark": DARK},
    {"flat": FLAT},
    {"dark": DARK, "flat": FLAT, "polarisation": 0.9, "tilted": True, "unit": "q_A^-1"},
    {"q_range": (2.0, 9.0)},
    {"azimuth_range": (-30.0, 75.0)},
    {"azimuth_range": (150.0, 215.0)},
    {"azimuth_range": (-20.0, 40.0), "tilted": True},
    {"q_range": (1.0, 8.0), "azimuth_range": (0.0, 90.0), "flat": FLAT, "dark": DARK},
    {"weight": 3.7, "dark": DARK},
]


@pytest.mark.parametrize("split", ["full", "bbox", "no"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
@pytest.mark.parametrize("azimuth_bins", [0, 7])
def test_pyfai_gives_the_same_numbers(split: Any, options: dict[str, Any], azimuth_bins: int) -> None:
    given = {"unit": "q_nm^-1", "solid_angle": True, "tilted": False, "weight": 1.0, **options}
    binning = Binning(
        25, given["unit"], azimuth_bins, split, given.get("q_range"), given.get("azimuth_range")
    )
    corrections = Corrections(
        given["solid_angle"], given.get("polarisation"), given.get("dark"), given.get("flat")
    )
    matrix = build_azimuthal_matrix(
        integrator(tilted=given["tilted"]), masked=MASK, binning=binning, corrections=corrections
    )
    found = ours(matrix, FRAME[np.newaxis], weight=given["weight"])
    peer = integrator(tilted=given["tilted"])
    shared = {
        "mask": MASK.astype(np.int8), "unit": given["unit"], "method": (split, "csr", "cython"),
        "error_model": "poisson", "normalization_factor": given["weight"], "dark": given.get("dark"),
        "flat": given.get("flat"), "polarization_factor": given.get("polarisation"),
        "correctSolidAngle": given["solid_angle"], "radial_range": given.get("q_range"),
        "azimuth_range": given.get("azimuth_range"),
    }  # fmt: skip
    if given.get("azimuth_range", (0, 0))[1] > 180:
        peer.setChiDiscAtZero()  # by itself pyFAI leaves out what lies behind 180 degrees
    if azimuth_bins and split != "full":
        # Only here pyFAI adds the dark to the variance; we never do, as it does not elsewhere.
        del shared["error_model"]
        shared["variance"] = np.maximum(FRAME, 1.0)
    if azimuth_bins:
        expected = peer.integrate2d(FRAME, 25, azimuth_bins, **shared)
        assert matrix.azimuths is not None
        np.testing.assert_allclose(matrix.azimuths, expected.azimuthal, rtol=1e-6)
    else:
        expected = peer.integrate1d(FRAME, 25, **shared)
    np.testing.assert_allclose(matrix.centres, expected.radial, rtol=1e-7)
    count = np.array(expected.count)
    if azimuth_bins and split == "full":
        # pyFAI 2026.9 reads values for the first pixel of such a map that nobody has set: what it gives to
        # other bins than ours, or in other shares, is not compared.
        share = bin_sums(matrix.pixels, np.ones(MASK.size)).reshape(25, 7).T
        unset = ~np.isclose(share, count, rtol=1e-4, atol=1e-9)
        assert unset.sum() <= 9
        count[unset] = 0
        found = [np.where(unset, np.nan, values) for values in found]
    assert_parity(found, expected, count)


def test_only_rounding_at_a_pixels_edge_is_left_out_of_the_matrix() -> None:
    shares = scipy.sparse.csr_matrix(np.array([[5.4e-20, 0, 0.25], [-4e-21, 1.0, -1.7e-6]], np.float32))
    kept = without_slivers(shares)
    np.testing.assert_array_equal(kept.toarray(), np.array([[0, 0, 0.25], [0, 1, -1.7e-6]], np.float32))
    assert kept.nnz == 3


@pytest.mark.parametrize("every", [None, 3, 2])
def test_groups_are_pyfais_curves_of_summed_frames(every: int | None) -> None:
    frames = np.random.default_rng(4).poisson(0.3, (6, *SHAPE)).astype(np.uint16)
    matrix = build_azimuthal_matrix(
        integrator(), masked=MASK, binning=Binning(25), corrections=Corrections(dark=DARK)
    )
    intensity, errors = ours(matrix, frames, every=every, weight=1.5)
    n = every or 6
    for i in range(6 // n):
        expected = integrator().integrate1d(
            frames[i * n : (i + 1) * n].sum(axis=0), 25, mask=MASK.astype(np.int8), unit="q_nm^-1",
            method=("full", "csr", "cython"), error_model="poisson", normalization_factor=1.5 * n,
            dark=DARK * n,
        )  # fmt: skip
        np.testing.assert_allclose(intensity[i], expected.intensity, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(errors[i], expected.sem, rtol=1e-5)


def test_blank_values_are_pyfais_dynamic_mask() -> None:
    frame = FRAME.copy()
    blank = np.random.default_rng(6).random(SHAPE) < 0.1
    frame[blank] = 2**32 - 1
    matrix = build_azimuthal_matrix(
        integrator(), masked=MASK, binning=Binning(25), corrections=Corrections(dark=DARK, flat=FLAT),
        valid=(0, 2.0**32 - 2),
    )  # fmt: skip
    expected = integrator().integrate1d(
        np.where(blank, np.nan, FRAME), 25, mask=MASK.astype(np.int8), unit="q_nm^-1", dark=DARK, flat=FLAT,
        method=("full", "csr", "cython"), error_model="poisson",
    )  # fmt: skip
    for every in (1, None):
        assert_parity(ours(matrix, frame[np.newaxis], every=every), expected, expected.count)


@pytest.mark.parametrize("name", ["Pilatus100k", "Imxpad S10"])
def test_a_poni_file_of_any_detector_is_used_as_pyfai_does(tmp_path: Path, name: str) -> None:
    detector = detector_factory(name)
    peer = AzimuthalIntegrator(0.12, 0.02, 0.03, 0.1, -0.05, 0.2, detector=detector, wavelength=0.8e-10)
    peer.save(str(tmp_path / "a.poni"))
    shape = tuple(detector.shape)
    frame = np.random.default_rng(1).poisson(20, shape).astype(np.uint32)
    masked = np.asarray(detector.mask if detector.mask is not None else np.zeros(shape), dtype=np.bool_)
    loaded = load_poni(tmp_path / "a.poni", shape=shape, wavelength_angstrom=None)  # type: ignore[arg-type]  # two
    matrix = build_azimuthal_matrix(loaded, masked=masked, binning=Binning(60), corrections=Corrections())
    expected = peer.integrate1d(
        frame, 60, mask=masked.astype(np.int8), unit="q_nm^-1", method=("full", "csr", "cython"),
        error_model="poisson",
    )  # fmt: skip
    assert_parity(ours(matrix, frame[np.newaxis]), expected, expected.count)
    with pytest.raises(BadParameter, match="shape"):
        load_poni(tmp_path / "a.poni", shape=(3, 3), wavelength_angstrom=None)


@pytest.mark.parametrize(
    "content", [b"", b"Distance: far", b"\xff\xfe\x00", b"Detector: nothing\nDistance: 1"]
)
def test_a_poni_file_that_says_nothing_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.poni").write_bytes(content)
    with pytest.raises(BadParameter) as caught:
        load_poni(tmp_path / "a.poni", shape=SHAPE, wavelength_angstrom=None)
    assert caught.value.name == "poni"
