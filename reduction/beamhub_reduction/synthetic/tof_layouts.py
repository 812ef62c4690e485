"""The same neutron events as several facilities write them, small, with known ids and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

AnyArray = np.ndarray[Any, np.dtype[Any]]

LAYOUTS = ("isis", "sns", "ess", "entry_only")
EPOCH_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class EventSample:
    """Events of two banks: for each bank ids and times (n_events,), whole microseconds.

    `n_per_pulse` (n_pulses,) are the events of both banks; `bank_pulses` those of each.
    """

    numbers: tuple[AnyArray, ...]
    distance_m: tuple[AnyArray, ...]
    two_theta_rad: tuple[AnyArray, ...]
    ids: tuple[AnyArray, ...]
    time_us: tuple[AnyArray, ...]
    bank_pulses: tuple[AnyArray, ...]

    @property
    def n_per_pulse(self) -> AnyArray:
        """Events of all banks in each pulse."""
        return np.asarray(np.sum(self.bank_pulses, axis=0))


def draw_sample(*, seed: int, n_events: int, n_pulses: int) -> EventSample:
    """Random events in two banks of (3, 4) and (2, 5) pixels; some times lie beyond 20 ms."""
    rng = np.random.default_rng(seed)
    numbers = (np.arange(100, 112).reshape(3, 4), np.arange(500, 510).reshape(2, 5))
    n_first = n_events // 2
    sizes = (n_first, n_events - n_first)
    pulses = tuple(rng.multinomial(n, np.full(n_pulses, 1 / n_pulses)) for n in sizes)
    for counts in pulses:
        if n_pulses > 4:  # one pulse in which nothing came
            counts[3], counts[4] = 0, counts[3] + counts[4]
    return EventSample(
        numbers,
        tuple(rng.uniform(1, 2, n.shape) for n in numbers),
        tuple(rng.uniform(0.6, 2.6, n.shape) for n in numbers),
        tuple(rng.choice(n.ravel(), size) for n, size in zip(numbers, sizes, strict=True)),
        tuple(rng.integers(1, 22_000, size) for size in sizes),
        pulses,
    )


def write_event_layout(path: Path, layout: str, sample: EventSample) -> Path:
    """Write the events as ISIS, SNS or ESS do, or as bare NXevent_data groups of the entry."""
    entry_name = "raw_data_1" if layout == "isis" else "entry"
    with h5py.File(path, "w") as f:
        entry = _group(f, entry_name, "NXentry")
        instrument = _group(entry, "instrument", "NXinstrument")
        source = _group(instrument, "moderator", "NXmoderator")
        source["distance"] = -20.0
        source["distance"].attrs["units"] = "m"
        for i in range(len(sample.numbers)):
            name = f"detector_{i + 1}" if layout == "isis" else f"bank{i + 1}"
            detector = None if layout == "entry_only" else _add_detector(instrument, name, layout, sample, i)
            inside = detector if layout == "ess" and detector is not None else entry
            _add_events(_group(inside, f"{name}_events", "NXevent_data"), layout, sample, i)
    return path


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _add_detector(instrument: Any, name: str, layout: str, sample: EventSample, i: int) -> Any:
    detector = _group(instrument, name, "NXdetector")
    ids = {"isis": "spectrum_index", "sns": "pixel_id", "ess": "detector_number"}[layout]
    detector[ids] = sample.numbers[i].astype(np.int32)
    detector["distance"] = sample.distance_m[i]
    detector["distance"].attrs["units"] = "metre"
    detector["polar_angle"] = np.degrees(sample.two_theta_rad[i])
    detector["polar_angle"].attrs["units"] = "degree"
    return detector


def _add_events(events: Any, layout: str, sample: EventSample, i: int) -> None:
    per_pulse = sample.bank_pulses[i]
    seconds = np.arange(per_pulse.size) / 10.0
    events["event_id"] = sample.ids[i].astype(np.uint32 if layout == "sns" else np.int32)
    events["event_index"] = np.concatenate([[0], np.cumsum(per_pulse)[:-1]]).astype(np.uint64)
    if layout == "ess":
        events["event_time_offset"] = (sample.time_us[i] * 1000).astype(np.int32)
        events["event_time_offset"].attrs["units"] = "ns"
        events["event_time_zero"] = EPOCH_NS + (seconds * 1e9).astype(np.int64)
        events["event_time_zero"].attrs["units"] = "ns"
        return
    events["event_time_offset"] = sample.time_us[i].astype(np.float32)
    events["event_time_offset"].attrs["units"] = "microsecond"
    events["event_time_zero"] = seconds
    events["event_time_zero"].attrs["units"] = "second"
    events["event_time_zero"].attrs["offset"] = "2026-01-01T00:00:00"
