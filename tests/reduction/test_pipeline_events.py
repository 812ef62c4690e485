"""Event reductions beyond the d-spacing curve: axes, bins, pulse windows, maps, layouts of facilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.kernels.events import count_cells, sort_cells
from beamhub_reduction.nexus import EventsInvalid, GeometryMissing, NoEvents
from beamhub_reduction.pipeline import events_map
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source, parse_parameters, step_kind
from beamhub_reduction.run import open_run
from beamhub_reduction.steps.time_of_flight import H_OVER_MN_ANGSTROM_M_PER_S, rebin_counts
from beamhub_reduction.synthetic import Truth
from beamhub_reduction.synthetic.tof_layouts import LAYOUTS, EventSample, draw_sample, write_event_layout


def reduced(step: str, file: Any, client: Any = None, **values: Any) -> Any:
    kind = step_kind(step)
    return kind.reduce(Source(str(file)), parse_parameters(kind, values), Engine(client=client))


@pytest.fixture(scope="module")
def sample() -> EventSample:
    """Two banks of pixels, 5000 events in 40 pulses."""
    return draw_sample(seed=8, n_events=5000, n_pulses=40)


@pytest.fixture(scope="module")
def files(sample: EventSample, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample as each facility writes it. Read-only."""
    folder = tmp_path_factory.mktemp("layouts")
    return {name: write_event_layout(folder / f"{name}.nxs", name, sample) for name in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_numpys_histogram_of_all_its_events(
    layout: str, files: dict[str, Path], sample: EventSample
) -> None:
    result = reduced(
        "time_of_flight", files[layout], axis="tof", axis_range=(0.0, 20_000.0), bins=64, normalise=False
    )
    times = np.concatenate(sample.time_us)
    expected, _ = np.histogram(times, bins=np.linspace(0, 20_000, 65))
    np.testing.assert_array_equal(result.signals[0].values, expected)
    statistics = result.statistics
    assert statistics.n_events == times.size
    assert statistics.counts_total + statistics.n_events_outside == times.size
    assert (statistics.n_pulses, statistics.n_empty_pulses) == (40, int((sample.n_per_pulse == 0).sum()))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "entry_only"])
def test_maps_are_numpys_two_dimensional_histogram(
    layout: str, files: dict[str, Path], sample: EventSample, client: Any
) -> None:
    values = {"axis_range": (0.0, 20_000.0), "bins": 50}
    result = reduced("event_map", files[layout], **values)
    for signal, ids, numbers, times in zip(
        result.signals, sample.ids, sample.numbers, sample.time_us, strict=True
    ):
        pixel = np.searchsorted(numbers.ravel(), ids)
        edges = np.linspace(0, 20_000, 51)
        expected, _, _ = np.histogram2d(pixel, times, bins=[np.arange(numbers.size + 1), edges])
        assert signal.values.shape == (*numbers.shape, 50)
        np.testing.assert_array_equal(signal.values.reshape(-1, 50), expected)
    shared = reduced("event_map", files[layout], client=client, **values)
    assert [s.values.tobytes() for s in shared.signals] == [s.values.tobytes() for s in result.signals]


def test_a_map_of_many_cells_sorts_them_and_counts_the_same(
    files: dict[str, Path], sample: EventSample
) -> None:
    bins = events_map.SMALL_CELLS // sum(n.size for n in sample.numbers) + 1
    few, many = (reduced("event_map", files["sns"], axis_range=(0.0, 20_000.0), bins=n) for n in (1, bins))
    for one, split in zip(few.signals, many.signals, strict=True):
        assert split.values.shape[-1] == bins
        np.testing.assert_array_equal(split.values.sum(axis=-1), one.values[..., 0])
    assert many.statistics == few.statistics


def test_cells_that_wait_are_counted_the_same() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 3_000_000, 5000).astype(np.uint32) for _ in range(4)]
    made = [
        events_map.MapPart(
            3_000_000, wide, None, (sort_cells(p, n_cells=3_000_000),), np.zeros(4, np.int64), 5000, 0, ()
        )
        for p in parts for wide in (False,)
    ]  # fmt: skip
    merged = made[0]
    for part in made[1:]:
        merged = events_map.merge_maps(merged, part)
    assert merged.counts is None
    dense = np.zeros(3_000_000, dtype=np.uint32)
    count_cells(merged.waiting, counts=dense)
    np.testing.assert_array_equal(events_map.finish_map(merged), dense)
    np.testing.assert_array_equal(dense, np.bincount(np.concatenate(parts), minlength=3_000_000))


def test_a_window_of_pulses_takes_their_events_and_their_charge(tof_truth: Truth) -> None:
    def charge_and_counts(**values: Any) -> tuple[float, int, Any]:
        found = reduced("time_of_flight", tof_truth.file, axis="tof", axis_range=(0.0, 30_000.0), **values)
        return found.parameters["proton_charge_uC"], found.statistics.counts_total, found.statistics

    whole_charge, whole, _ = charge_and_counts()
    parts = [charge_and_counts(pulses=window) for window in ((0.0, 11.25), (11.25, 39.95))]
    assert sum(part[1] for part in parts) == whole
    assert sum(part[0] for part in parts) == pytest.approx(whole_charge)
    assert parts[0][2].n_pulses + parts[0][2].n_pulses_filtered == tof_truth.pulses
    assert parts[0][2].n_events_filtered > 0


def test_wavelength_and_d_spacing_are_the_formulas(files: dict[str, Path], sample: EventSample) -> None:
    edges = np.geomspace(0.1, 10, 30)
    for axis in ("wavelength", "d"):
        result = reduced("time_of_flight", files["sns"], axis=axis, edges=tuple(edges), normalise=False)
        expected = np.zeros(29, dtype=np.int64)
        for i, (ids, numbers, times) in enumerate(
            zip(sample.ids, sample.numbers, sample.time_us, strict=True)
        ):
            pixel = np.searchsorted(numbers.ravel(), ids)
            path, angle = 20.0 + sample.distance_m[i].ravel()[pixel], sample.two_theta_rad[i].ravel()[pixel]
            place = H_OVER_MN_ANGSTROM_M_PER_S * times * 1e-6 / path
            place = place / (2 * np.sin(angle / 2)) if axis == "d" else place
            expected += np.histogram(place, bins=edges)[0]
        assert np.abs(result.signals[0].values - expected).sum() <= 2  # an event within rounding of an edge


def test_bins_can_be_given_in_every_way_and_not_in_two(files: dict[str, Path]) -> None:
    by_width = reduced("time_of_flight", files["sns"], axis="tof", axis_range=(10.0, 1000.0), bin_width=10.0)
    assert by_width.signals[0].values.size == 99
    log = reduced("time_of_flight", files["sns"], axis_range=(0.5, 4.0), bin_width=0.01, log=True)
    centres = log.signals[0].axes[0].values
    np.testing.assert_allclose(centres[1:] / centres[:-1], 1.01)
    for wrong in (
        {"bins": 3, "bin_width": 1.0}, {"d_range": (1.0, 2.0), "axis": "tof"}, {"edges": (2.0, 1.0)},
        {"axis_range": (1.0, 2.0), "d_range": (1.0, 2.0)}, {"pulses": (1.0, 1.0)}, {"bin_width": 1e-9},
        {"axis_range": (-1.0, 1.0), "log": True, "axis": "tof"}, {"axis_range": (float("nan"), 1.0)},
    ):  # fmt: skip
        with pytest.raises(BadParameter):
            reduced("time_of_flight", files["sns"], **wrong)
    with pytest.raises(BadParameter, match="bank"):
        reduced("event_map", files["sns"], bank="nowhere")


def test_normalisation_by_monitor_and_by_pulses(tof_truth: Truth) -> None:
    plain = reduced("time_of_flight", tof_truth.file, d_range=(0.5, 4.0), normalise=False).signals[0]
    pulses = reduced("time_of_flight", tof_truth.file, d_range=(0.5, 4.0), normalise_to="pulses").signals[0]
    np.testing.assert_allclose(pulses.values * tof_truth.pulses, plain.values)
    found = reduced("time_of_flight", tof_truth.file, d_range=(0.5, 4.0), normalise_to="monitor")
    np.testing.assert_allclose(found.signals[0].values * found.parameters["normalised_by"], plain.values)
    window = reduced("time_of_flight", tof_truth.file, pulses=(0.0, 9.0), normalise_to="monitor", axis="tof")
    assert window.signals[0].units == "counts"
    assert "not normalised" in window.warnings[0]


def test_events_without_a_detector_have_times_and_nothing_else(files: dict[str, Path]) -> None:
    with pytest.raises(NoEvents):
        reduced("time_of_flight", files["entry_only"])
    with pytest.raises(GeometryMissing, match="detector_number"):
        reduced("event_map", files["entry_only"])


@pytest.mark.parametrize("n_events", [0, 1])
def test_runs_of_no_event_and_of_one(tmp_path: Path, n_events: int) -> None:
    file = write_event_layout(tmp_path / "a.nxs", "sns", draw_sample(seed=1, n_events=n_events, n_pulses=3))
    values = {"axis": "tof", "axis_range": (0.0, 2e4), "bins": 4, "normalise": False}
    if n_events == 0:
        with pytest.raises(NothingLeft):
            reduced("time_of_flight", file, **values)
    else:
        assert reduced("time_of_flight", file, **values).statistics.n_events == 1


def test_a_missing_pulse_in_the_middle_is_empty(tmp_path: Path) -> None:
    file = write_event_layout(tmp_path / "a.nxs", "sns", draw_sample(seed=1, n_events=50, n_pulses=5))
    never = np.iinfo(np.uint64).max
    with h5py.File(file, "a") as f:
        for bank in ("bank1_events", "bank2_events"):
            f[f"entry/{bank}/event_index"][2] = never
    values = {"axis": "tof", "axis_range": (0.0, 2e4), "normalise": False}
    assert reduced("time_of_flight", file, **values).statistics.n_events == 50
    with h5py.File(file, "a") as f:
        f["entry/bank1_events/event_index"][1] = 25
    with pytest.raises(EventsInvalid, match="decreases"):
        reduced("time_of_flight", file, **values)


def test_histogrammed_detectors_keep_their_counts(tmp_path: Path, files: dict[str, Path]) -> None:
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 2**31 - 1, (6, 5, 40)).astype(np.int32)
    with h5py.File(tmp_path / "h.nxs", "w") as f:
        for name, nx_class in (("e", "NXentry"), ("e/i", "NXinstrument"), ("e/i/source", "NXsource"),
                               ("e/i/bank", "NXdetector")):  # fmt: skip
            f.create_group(name).attrs["NX_class"] = nx_class
        f["e/i/source/distance"] = -20.0
        f["e/i/bank/data"] = counts
        f["e/i/bank/time_of_flight"] = np.linspace(1000, 9000, 41)
        f["e/i/bank/time_of_flight"].attrs["units"] = "us"
        f["e/i/bank/distance"], f["e/i/bank/polar_angle"] = np.full((6, 5), 1.5), rng.uniform(40, 140, (6, 5))
    plain = reduced("tof_histogram", tmp_path / "h.nxs")
    np.testing.assert_array_equal(plain.signals[0].values, counts.sum(axis=(0, 1), dtype=np.int64))
    assert plain.statistics.counts_total == int(counts.sum(dtype=np.int64))
    focused = reduced("tof_histogram", tmp_path / "h.nxs", axis="d", bins=300)
    assert focused.signals[0].values.sum() == pytest.approx(float(counts.sum(dtype=np.int64)))
    with pytest.raises(NoEvents):
        reduced("tof_histogram", files["sns"])


def test_rebinning_into_the_same_bins_changes_nothing() -> None:
    counts = np.arange(12).reshape(2, 6)
    edges = np.linspace(0, 6, 7)
    rebinned = rebin_counts(counts, time_edges_s=edges, factor=np.array([1.0, np.nan]), edges=edges)
    np.testing.assert_allclose(rebinned, counts[0])


@pytest.mark.facility_data
@pytest.mark.usefixtures("outside_session")
def test_real_banks_of_sinq_are_summed_each_for_itself(facility_data: Path) -> None:
    file = facility_data / "sinq_focus_tof.h5"
    result = open_run(file).tof_histogram(progress=lambda *_: None)
    with h5py.File(file) as f:
        for name, signal in zip(("bank1", "lowerbank", "merged", "upperbank"), result.signals, strict=True):
            assert signal.name == f"counts_{name}"
            np.testing.assert_array_equal(signal.values, f[f"entry1/FOCUS/{name}/counts"][()].sum(axis=0))
