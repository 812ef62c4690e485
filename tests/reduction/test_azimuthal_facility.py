"""The real Eiger frame: stored, decoded and pyFAI's curves are the same numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction.nexus import Geometry
from beamhub_reduction.pipeline.azimuthal import AzimuthalParameters, reduce_azimuthal
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source

BINS, PIXEL_M, DISTANCE_M = 1000, 75e-6, 0.2


def test_pyfai_gives_the_same_curve_of_a_real_frame(facility_data: Path) -> None:
    path = facility_data / "eiger4m_frame_bitshuffle.h5"
    if not path.exists():
        pytest.skip("no real Eiger frame: eiger4m_frame_bitshuffle.h5 is not in the folder of real files")
    with h5py.File(path) as file:
        frame = file["entry/data/data"][0]
    gaps = frame == np.iinfo(frame.dtype).max
    ny, nx = frame.shape
    poni = (DISTANCE_M, ny / 2 * PIXEL_M, nx / 2 * PIXEL_M)
    peer = AzimuthalIntegrator(
        *poni, wavelength=1e-10, detector=Detector(PIXEL_M, PIXEL_M, max_shape=frame.shape)
    )
    expected = peer.integrate1d(
        frame, BINS, unit="q_nm^-1", mask=gaps, method=("no", "csr", "cython"), error_model="poisson"
    )
    parameters = AzimuthalParameters(
        bins=BINS,
        every=1,
        split="no",
        mask=gaps,
        geometry=Geometry(*poni, PIXEL_M, PIXEL_M, 1.0),
        normalise=False,
    )
    found = reduce_azimuthal(Source(str(path), "/entry/data/data"), parameters, Engine(threads=1)).signals[0]
    filled = np.asarray(expected.count) > 0
    assert found.errors is not None and filled.sum() > 900
    np.testing.assert_allclose(found.values[0][filled], expected.intensity[filled], rtol=1e-6)
    np.testing.assert_allclose(found.errors[0][filled], expected.sem[filled], rtol=1e-5)
