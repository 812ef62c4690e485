"""Small runs in the layouts of neutron facilities: ILL's scans, and the headers of ISIS, SNS and ESS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from beamhub_reduction.synthetic.layouts import END, START, LayoutTruth, make_frames
from beamhub_reduction.synthetic.tree import add_field, add_fields, add_group


def write_ill_scan(folder: Path, *, seed: int = 6, n_points: int = 4) -> LayoutTruth:
    """ILL: entry0 with data_scan/detector_data and the scanned variables beside it, one row each.

    Source: Mantid, LoadILLDiffraction.
    """
    frames = make_frames(seed, (n_points, 8, 16), np.int32)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0123456.nxs"
    names, units = ("2theta", "Monitor1", "AcquisitionTime"), ("degree", "counts", "s")
    values = np.stack([np.linspace(5, 8, n_points), np.full(n_points, 1e5), np.full(n_points, 30.0)])
    with h5py.File(path, "x") as file:
        entry = add_group(file, "entry0", "NXentry")
        add_fields(entry, title="CeO2 scan", start_time=START, end_time=END, run_number=np.int32(123456))
        add_fields(add_group(entry, "D20", "NXinstrument"), name="D20")
        scan = add_group(entry, "data_scan", "NXcollection")
        add_field(add_group(scan, "detector_data", "NXdata"), "data", frames, signal=1)
        variables = add_group(scan, "scanned_variables", "NXdata")
        add_field(variables, "data", values)
        described = add_group(variables, "variables_names", "NXcollection")
        for name, column in (("name", names), ("unit", units)):
            described.create_dataset(name, data=list(column), dtype=h5py.string_dtype())
        add_field(described, "scanned", np.array([1, 0, 0], np.int32))
    return LayoutTruth(
        path, "/entry0", frames, np.zeros((8, 16), np.bool_), "CeO2 scan",
        others={"variables": dict(zip(names, values, strict=True))},
    )  # fmt: skip


def write_pulsed_header(folder: Path, *, facility: str, n_events: int = 50) -> LayoutTruth:
    """A run with few events and what 'ISIS', 'SNS' or 'ESS' says of itself, each in its own places."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{facility}_4711.nxs"
    entry_name, bank = {
        "ISIS": ("raw_data_1", "detector_1_events"),
        "SNS": ("entry", "bank1_events"),
        "ESS": ("entry", "instrument/bank0"),
    }[facility]
    with h5py.File(path, "x") as file:
        entry = add_group(file, entry_name, "NXentry")
        add_fields(
            entry, title=f"{facility} run", start_time=START, end_time=END, experiment_identifier="RB1"
        )
        instrument = add_group(entry, "instrument", "NXinstrument")
        add_fields(instrument, name=facility.title())
        add_fields(add_group(entry, "sample", "NXsample"), name="V rod")
        add_fields(add_group(entry, "user_1", "NXuser"), name="A. Person")
        add_field(entry, "proton_charge", np.array([12.5], np.float32), units="uAh")
        if facility == "ISIS":
            add_field(entry, "run_number", np.array([4711], np.int32))
        else:
            add_field(entry, "run_number", np.array([b"4711"]))
        group: Any = entry
        *holders, name = bank.split("/")
        for holder in holders:
            group = group[holder]
        if facility == "ESS":
            group = add_group(group, "bank0", "NXdetector")
            add_field(group, "detector_number", np.arange(20, dtype=np.int32))
            name = "events"
        _add_events(add_group(group, name, "NXevent_data"), facility, n_events)
    return LayoutTruth(
        path, f"/{entry_name}", np.zeros((0, 0, 0)), np.zeros((0, 0), np.bool_), f"{facility} run"
    )


def _add_events(group: Any, facility: str, n_events: int) -> None:
    add_field(group, "event_id", np.arange(n_events, dtype=np.int32) % 20)
    if facility == "ESS":
        times = np.arange(n_events, dtype=np.int32) * 1000
        add_field(group, "event_time_offset", times, units="ns")
        pulses = 1_772_352_000_000_000_000 + np.arange(5, dtype=np.int64) * 71_428_571
        add_field(group, "event_time_zero", pulses, units="ns")
    else:
        add_field(group, "event_time_offset", np.arange(n_events, dtype=np.float32), units="microsecond")
        add_field(group, "event_time_zero", np.arange(5) * 0.02, units="second", offset=START)
    add_field(group, "event_index", np.arange(0, n_events, n_events // 5, dtype=np.uint64)[:5])
