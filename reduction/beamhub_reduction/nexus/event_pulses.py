"""Pulses of a neutron source: when they came, which of them count, and how much beam they brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from beamhub_reduction.nexus.monitor_spectrum import MonitorSpectrum, read_monitor_spectrum
from beamhub_reduction.nexus.tree import Node

if TYPE_CHECKING:
    from beamhub_reduction.nexus.events import EventBank

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Beam:
    """What the beam brought.

    `charge_pC` is the entry's total. `log_time_s` and `log_charge_pC`, shape (n_pulses,), are the charge
    pulse by pulse, with times counted from `log_epoch`; None without a log. `monitor_counts` is the sum of
    the first monitor, named `monitor`; `spectrum` is that of the first monitor that has one.
    """

    charge_pC: float | None  # noqa: N815  # the unit's own spelling
    log_time_s: FloatArray | None
    log_charge_pC: FloatArray | None  # noqa: N815
    log_epoch: str
    monitor: str
    monitor_counts: float | None
    spectrum: MonitorSpectrum | None = None


def read_beam(entry: Node, monitors: Sequence[Node]) -> Beam:
    """Charge on target from the NXlog in DASlogs (SNS) or framelog (ISIS), else the total; monitor."""
    total, times, values, epoch = entry.number("proton_charge", "pC"), None, None, ""
    for folder in ("DASlogs", "framelog", "runlog"):
        logs = entry.get(folder)
        log = logs.get("proton_charge") if logs is not None else None
        if log is None or log.is_dataset:
            continue
        found = log.numbers("value", "pC")
        if found is None or not found.size:
            continue
        values = found.ravel()
        times = log.numbers("time", "s")
        times = times.ravel() if times is not None and times.size == values.size else None
        node = log.get("time")
        epoch = (node.attribute_text("start") or node.attribute_text("offset") or "") if node else ""
        total = float(np.nansum(values))
        break
    name, counts = _read_monitor_sum(monitors)
    return Beam(total, times, values, epoch, name, counts, read_monitor_spectrum(monitors))


def _read_monitor_sum(monitors: Sequence[Node]) -> tuple[str, float | None]:
    for monitor in monitors:
        for name in ("data", "integral", "counts"):
            values = monitor.numbers(name)
            if values is not None and values.size and np.isfinite(values).all() and values.sum() > 0:
                return monitor.target.path, float(values.sum())
        for events in (monitor, *monitor.groups("NXevent_data")):
            total = events.number("total_counts")
            if total:
                return monitor.target.path, total
    return "", None


def pulse_seconds(banks: Sequence[EventBank]) -> tuple[FloatArray, ...]:
    """The time of every pulse of each bank, in seconds after the first pulse of all banks, shape (n_pulses,).

    Integers (nanoseconds since 1970) are subtracted before they become floating-point numbers.
    """
    filled = [bank for bank in banks if bank.event_time_zero.size]
    if not filled:
        return tuple(np.zeros(0) for _ in banks)
    same = len({(b.event_time_zero.dtype.kind, b.pulse_unit_s, b.pulse_epoch) for b in filled}) == 1
    if same:
        first = min(bank.event_time_zero.min() for bank in filled)
        return tuple((bank.event_time_zero - first).astype(np.float64) * bank.pulse_unit_s for bank in banks)
    times = [
        b.event_time_zero.astype(np.float64) * b.pulse_unit_s + epoch_seconds(b.pulse_epoch) for b in banks
    ]
    begin = min(float(t.min()) for t in times if t.size)
    return tuple(t - begin for t in times)


def epoch_seconds(text: str) -> float:
    """Seconds from 1970 to a date of ISO 8601; 0 for what is none. A date without a zone is taken as UTC."""
    try:
        date = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def pulses_within(seconds: FloatArray, window: tuple[float, float] | None, n_pulses: int) -> BoolArray:
    """Which pulses count, shape (n_pulses,): window[0] <= time < window[1], never those without a time."""
    if window is None:
        return np.ones(n_pulses, dtype=np.bool_)
    kept = np.zeros(n_pulses, dtype=np.bool_)
    kept[: seconds.size] = (seconds >= window[0]) & (seconds < window[1])
    return kept


def event_runs(event_index: IntArray, kept: BoolArray) -> IntArray:
    """The events of the pulses that count as few runs of rows, shape (n_runs, 2), first and behind the last.

    With all pulses kept this is one run from zero, so that events before the first pulse count too.
    """
    if kept.all():
        return np.array([[0, event_index[-1]]], dtype=np.int64)
    change = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    runs = event_index[change].reshape(-1, 2)
    return runs[runs[:, 1] > runs[:, 0]]


def charge_within(beam: Beam, window: tuple[float, float] | None, banks: Sequence[EventBank]) -> float | None:
    """Charge in pC of the pulses that count; None when a window is given and no log says when it came."""
    if window is None:
        return beam.charge_pC
    filled = [bank for bank in banks if bank.event_time_zero.size]
    if beam.log_time_s is None or beam.log_charge_pC is None or not filled:
        return None
    begin = min(
        float(b.event_time_zero.min()) * b.pulse_unit_s + epoch_seconds(b.pulse_epoch) for b in filled
    )
    epoch = epoch_seconds(beam.log_epoch) if beam.log_epoch else epoch_seconds(filled[0].pulse_epoch)
    seconds = beam.log_time_s + (epoch - begin)
    # A microsecond of slack: both times went through large numbers.
    kept = (seconds >= window[0] - 1e-6) & (seconds < window[1] - 1e-6)
    return float(np.nansum(beam.log_charge_pC[kept]))


def count_pulses(banks: Sequence[EventBank], kept: Sequence[BoolArray] | None = None) -> tuple[int, int]:
    """(pulses, pulses in which no bank has an event), of all pulses or of those that are kept.

    Banks with the same event_time_zero share their pulses; otherwise pulses are told apart by time.
    """
    kept = kept or [np.ones(bank.event_index.size - 1, dtype=np.bool_) for bank in banks]
    times = [bank.event_time_zero for bank in banks]
    lengths = {bank.event_index.size - 1 for bank in banks}
    shared = len(lengths) == 1 and all(np.array_equal(times[0], t) for t in times[1:])
    if shared:
        filled = np.zeros(lengths.pop(), dtype=np.bool_)
        for bank in banks:
            filled |= np.diff(bank.event_index) > 0
        return int(np.count_nonzero(kept[0])), int(np.count_nonzero(~filled & kept[0]))
    seconds = pulse_seconds(banks)
    pulses = np.unique(np.concatenate([t[k[: t.size]] for t, k in zip(seconds, kept, strict=True)]))
    with_events = [
        t[(np.diff(b.event_index)[: t.size] > 0) & k[: t.size]]
        for b, t, k in zip(banks, seconds, kept, strict=True)
    ]
    return int(pulses.size), int(pulses.size - np.unique(np.concatenate(with_events)).size)
