"""NXevent_data as real writers leave it: empty pulses, repaired indices, contradictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.nexus import (
    EventsInvalid,
    GeometryMissing,
    NexusFile,
    NoEvents,
    UnitUnknown,
    count_pulses,
    read_event_run,
)
from beamhub_reduction.synthetic import Truth

NEVER = np.iinfo(np.uint64).max


def write_events(
    path: Path, index: Any, *, n_events: int = 6, n_pulses: int | None = None, **changes: Any
) -> Path:
    fields: dict[str, Any] = {
        "event_id": np.ones(n_events, np.int32),
        "event_time_offset": np.full(n_events, 5.0, np.float32),
        "event_index": np.asarray(index, np.uint64),
        "event_time_zero": np.arange(len(index) if n_pulses is None else n_pulses, dtype=np.float64),
    } | changes
    with h5py.File(path, "w") as f:
        for name, nx_class in (
            ("e", "NXentry"), ("e/i", "NXinstrument"), ("e/i/moderator", "NXmoderator"),
            ("e/i/bank", "NXdetector"), ("e/bank_events", "NXevent_data"),
        ):  # fmt: skip
            f.create_group(name).attrs["NX_class"] = nx_class
        f["e/i/moderator/distance"] = -20.0
        f["e/i/bank/detector_number"] = np.array([1, 2])
        f["e/i/bank/distance"] = np.array([1.0, 1.5])
        f["e/i/bank/polar_angle"] = np.array([90.0, 91.0])
        for name, value in fields.items():
            if value is not None:
                f[f"e/bank_events/{name}"] = value
        if fields["event_time_offset"] is not None:
            f["e/bank_events/event_time_offset"].attrs["units"] = "us"
    return path


def run_of(path: Path) -> Any:
    with NexusFile(path) as nexus:
        return read_event_run(nexus)


def test_banks_pixels_and_charge_are_read(tof_truth: Truth) -> None:
    run = run_of(Path(tof_truth.file))
    assert run.primary_flight_path_m == 20.0
    assert sum(bank.n_events for bank in run.banks) == tof_truth.events
    assert sum(int(bank.masked.sum()) for bank in run.banks) == tof_truth.n_pixels_masked
    assert run.beam.charge_pC > 0
    assert count_pulses(run.banks) == (tof_truth.pulses, tof_truth.empty_pulses)


def test_events_beside_their_detector_are_found_and_empty_pulses_counted(tmp_path: Path) -> None:
    run = run_of(write_events(tmp_path / "a.nxs", [0, 2, 2, 5, 6, 6]))
    (bank,) = run.banks
    assert bank.event_index.tolist() == [0, 2, 2, 5, 6, 6, 6]
    assert count_pulses(run.banks) == (6, 3)
    assert bank.two_theta_rad[0] == pytest.approx(np.pi / 2)
    assert bank.time_unit_s == 1e-6


def test_pulses_that_never_came_and_a_short_index_are_empty_pulses(tmp_path: Path) -> None:
    never = run_of(write_events(tmp_path / "a.nxs", [0, 4, NEVER, NEVER]))
    assert never.banks[0].event_index.tolist() == [0, 4, 6, 6, 6]
    assert count_pulses(never.banks) == (4, 2)
    short = run_of(write_events(tmp_path / "b.nxs", [0, 4], n_pulses=5))
    assert count_pulses(short.banks) == (5, 3)


@pytest.mark.parametrize(
    ("index", "changes", "reason"),
    [
        ([0, 7], {}, "beyond its 6 events"),
        ([0, 4, 2], {}, "decreases"),
        ([0], {"event_id": np.ones(5, np.int32)}, "lengths differ"),
        ([0], {"event_id": None}, "no event_id"),
        ([0], {"event_index": np.zeros(1)}, "has type"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, index: list[int], changes: dict[str, Any], reason: str
) -> None:
    path = write_events(tmp_path / "a.nxs", index, **changes)
    with pytest.raises(EventsInvalid, match=reason):
        run_of(path)


def test_missing_units_geometry_and_events_are_told_apart(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.nxs", [0])
    with h5py.File(path, "a") as f:
        del f["e/bank_events/event_time_offset"].attrs["units"]
    with pytest.raises(UnitUnknown):
        run_of(path)
    with h5py.File(path, "a") as f:
        del f["e/i/bank/polar_angle"]
    with pytest.raises(GeometryMissing) as caught:
        run_of(path)
    assert caught.value.fields == ("polar_angle",)
    with h5py.File(path, "a") as f:
        del f["e/bank_events"]
    with pytest.raises(NoEvents):
        run_of(path)
