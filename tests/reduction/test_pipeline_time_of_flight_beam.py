"""Counts divided by the beam that came, with its uncertainty: as scipp divides arrays with variances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipp as sc

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus import GeometryMissing
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source, parse_parameters, step_kind
from beamhub_reduction.steps.time_of_flight import H_OVER_MN_ANGSTROM_M_PER_S

N_TOF = 40
EDGES_US = np.linspace(1000, 9000, N_TOF + 1)
MONITOR_US = np.linspace(500, 9500, 61)
SOURCE_M, MONITOR_M, PIXEL_M = 20.0, -1.5, 1.5


def reduced(step: str, file: Path, **values: Any) -> Any:
    kind = step_kind(step)
    return kind.reduce(Source(str(file)), parse_parameters(kind, values), Engine())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A histogrammed detector, events in another, a monitor of two periods, partly empty, and a charge."""
    rng = np.random.default_rng(4)
    file = tmp_path_factory.mktemp("beam") / "run.nxs"
    with h5py.File(file, "w") as f:
        for name, nx_class in (
            ("e", "NXentry"), ("e/i", "NXinstrument"), ("e/i/source", "NXsource"), ("e/i/bank", "NXdetector"),
            ("e/i/ev", "NXdetector"), ("e/i/ev/events", "NXevent_data"), ("e/monitor", "NXmonitor"),
        ):  # fmt: skip
            f.create_group(name).attrs["NX_class"] = nx_class
        f["e/i/source/distance"], f["e/monitor/distance"] = -SOURCE_M, MONITOR_M
        f["e/proton_charge"] = 7.0
        f["e/proton_charge"].attrs["units"] = "uC"
        f["e/i/bank/data"] = rng.poisson(9, (6, 5, N_TOF)).astype(np.int32)
        f["e/i/bank/time_of_flight"] = EDGES_US
        monitor = rng.poisson(400, (2, MONITOR_US.size - 1))
        monitor[:, 20:22] = 0
        f["e/monitor/data"], f["e/monitor/time_of_flight"] = monitor, MONITOR_US
        for bank, shape in (("bank", (6, 5)), ("ev", (3,))):
            f[f"e/i/{bank}/distance"] = np.full(shape, PIXEL_M)
            f[f"e/i/{bank}/polar_angle"] = rng.uniform(40, 140, shape)
        f["e/i/ev/detector_number"] = np.arange(3)
        f["e/i/ev/events/event_id"] = rng.integers(0, 3, 5000, dtype=np.int32)
        f["e/i/ev/events/event_time_offset"] = rng.uniform(500, 9500, 5000).astype(np.float32)
        for times in (
            "e/i/bank/time_of_flight",
            "e/monitor/time_of_flight",
            "e/i/ev/events/event_time_offset",
        ):
            f[times].attrs["units"] = "us"
        f["e/i/ev/events/event_index"] = np.zeros(1, np.uint64)
        f["e/i/ev/events/event_time_zero"] = np.zeros(1)
    return file


def counts_of(values: Any, edges: Any) -> sc.DataArray:
    """Counts with Poisson variances."""
    found = np.asarray(values, dtype=np.float64)
    data = sc.array(dims=["x"], values=found, variances=found, unit="counts")
    return sc.DataArray(data, coords={"x": sc.array(dims=["x"], values=edges)})


def monitor_of(file: Path, factor: float = 1.0) -> sc.DataArray:
    with h5py.File(file) as f:
        return counts_of(f["e/monitor/data"][()].sum(axis=0), MONITOR_US * factor)


def assert_is_quotient(signal: Any, counts: sc.DataArray, beam: sc.DataArray | sc.Variable) -> None:
    """Where the beam is not zero scipp's quotient and its standard deviation, else NaN."""
    expected = counts / (beam.data if isinstance(beam, sc.DataArray) else beam)
    values = np.where(np.isfinite(expected.values), expected.values, np.nan)
    np.testing.assert_allclose(signal.values, values, rtol=1e-9)
    errors = np.where(np.isfinite(expected.values), sc.stddevs(expected).values, np.nan)
    np.testing.assert_allclose(signal.errors, errors, rtol=1e-9)


@pytest.mark.parametrize("step", ["tof_histogram", "time_of_flight"])
@pytest.mark.parametrize("axis", ["tof", "wavelength"])
def test_a_monitors_spectrum_divides_as_scipp_rebins_and_divides(run: Path, step: str, axis: str) -> None:
    bins: dict[str, Any] = {} if (step, axis) == ("tof_histogram", "tof") else {
        "bins": 30, "axis_range": (1000.0, 9000.0) if axis == "tof" else (0.3, 1.4)
    }  # fmt: skip
    plain = {"normalise": False} if step == "time_of_flight" else {}
    counts = reduced(step, run, axis=axis, **bins, **plain).signals[0]
    found = reduced(step, run, axis=axis, normalise_to="monitor_spectrum", **bins)
    signal = found.signals[0]
    edges = np.linspace(*bins["axis_range"], 31) if bins else EDGES_US
    per_us = 1e-6 * H_OVER_MN_ANGSTROM_M_PER_S / (SOURCE_M + MONITOR_M)
    monitor = monitor_of(run, 1.0 if axis == "tof" else per_us)
    beam = monitor.rebin(x=sc.array(dims=["x"], values=edges))
    assert_is_quotient(signal, counts_of(counts.values, edges), beam)
    assert signal.units == "counts/count"
    assert "e/monitor" in found.parameters["normalised_to"]


def test_one_number_for_all_bins_divides_as_scipp_does(run: Path) -> None:
    plain = reduced("tof_histogram", run).signals[0]
    counts = counts_of(plain.values, EDGES_US)
    total = sc.sum(monitor_of(run).data)
    found = reduced("tof_histogram", run, normalise_to="monitor").signals[0]
    # scipp refuses to broadcast a number with a variance, because the bins become correlated.
    value, variance = total.value, total.variance
    np.testing.assert_allclose(found.values, counts.values / value)
    expected = np.sqrt(counts.variances / value**2 + counts.values**2 * variance / value**4)
    np.testing.assert_allclose(found.errors, expected)
    charge = reduced("tof_histogram", run, normalise_to="charge")
    assert_is_quotient(charge.signals[0], counts, sc.scalar(7.0))
    assert charge.signals[0].units == "counts/uC"
    assert charge.parameters["normalised_by"] == 7.0


def test_what_a_spectrum_cannot_divide_is_said(run: Path, tmp_path: Path) -> None:
    for step in ("tof_histogram", "time_of_flight"):
        with pytest.raises(BadParameter, match="wavelength"):
            reduced(step, run, axis="d", normalise_to="monitor_spectrum", axis_range=(0.2, 2.0))
    file = tmp_path / "other.nxs"
    file.write_bytes(run.read_bytes())
    with h5py.File(file, "a") as f:
        del f["e/monitor/distance"]
    with pytest.raises(GeometryMissing, match="distance"):
        reduced("tof_histogram", file, axis="wavelength", normalise_to="monitor_spectrum")
    with h5py.File(file, "a") as f:
        del f["e/monitor"], f["e/proton_charge"]
    for wanted in ("monitor_spectrum", "monitor", "charge"):
        found = reduced("tof_histogram", file, normalise_to=wanted)
        assert found.signals[0].units == "counts"
        assert "not normalised" in found.warnings[0]
