"""What was read, left out and counted: exact integers that go into every product."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Statistics:
    """Exact counts of one reduction, int64 each.

    `counts_total` is the sum of all counts of unmasked pixels of the frames read, or the number of
    events used. `n_values_blank` counts single values that the detector marked as 'no value' in pixels
    that are not masked; `n_values_clamped` those raised to the smallest transmission before a logarithm,
    and `n_values_saturated` those at the limit of their type.
    """

    n_frames_read: int = 0
    n_frames_missing: int = 0
    n_frames_corrupt: int = 0
    n_frames_without_flux: int = 0
    n_pixels_masked: int = 0
    n_values_blank: int = 0
    counts_total: int = 0
    n_pulses: int = 0
    n_empty_pulses: int = 0
    n_events: int = 0
    n_events_masked: int = 0
    n_events_unknown_id: int = 0
    n_events_outside: int = 0
    n_events_corrupt: int = 0
    n_values_clamped: int = 0
    n_values_saturated: int = 0
    n_spectra_read: int = 0
    n_spectra_corrupt: int = 0
    n_spectra_without_live_time: int = 0
    n_events_not_finite: int = 0
    n_events_filtered: int = 0
    n_pulses_filtered: int = 0
    n_trains: int = 0
    n_trains_used: int = 0
    n_trains_incomplete: int = 0
    n_trains_left_out: int = 0
    n_frames_without_constants: int = 0

    def as_dict(self) -> dict[str, int]:
        """Name to count, in the order of declaration; for the product file."""
        return {field.name: int(getattr(self, field.name)) for field in fields(self)}
