"""How numbers, dates and codes read on a page."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from beamhub_catalogue.views import EmbargoView

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS_PER_MONTH = 30.44
REFUSAL_TITLES = {
    "not_found": "Not found",
    "embargoed": "Under embargo",
    "not_a_member": "Only for the team",
    "assurance_too_low": "A stronger login is needed",
    "withdrawn": "Withdrawn",
    "no_place": "No place to run now",
    "full": "Everything is in use",
    "over_quota": "More than you may use at once",
    "profile_not_allowed": "This size is not open to you",
    "unavailable": "Cannot tell now",
    "bad_request": "That request does not fit",
}


def size_words(size_bytes: int) -> str:
    """A size with a binary unit and at most one decimal, e.g. '1.5 GiB'."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def date_words(instant: datetime, zone: ZoneInfo) -> str:
    """A day in words in the facility's zone, e.g. '12 March 2029'."""
    local = instant.astimezone(zone)
    return f"{local.day} {MONTHS[local.month - 1]} {local.year}"


def iso_day(instant: datetime, zone: ZoneInfo) -> str:
    """The same day in ISO 8601."""
    return instant.astimezone(zone).date().isoformat()


def from_now(instant: datetime, now: datetime) -> str:
    """How far ahead an instant lies, in the largest fitting unit; 'now' for the past."""
    seconds = (instant - now).total_seconds()
    if seconds <= 0:
        return "now"
    for unit, length_s in (
        ("month", DAYS_PER_MONTH * 86400),
        ("day", 86400.0),
        ("hour", 3600.0),
        ("minute", 60.0),
    ):
        count = seconds / length_s
        if count >= (2 if unit != "minute" else 1):
            return f"in {round(count)} {unit}{'' if round(count) == 1 else 's'}"
    return "in less than a minute"


def time_left(until: datetime, now: datetime) -> str:
    """The time to an end as hours and minutes, e.g. '7 h 05 min'."""
    minutes = max(0, int((until - now).total_seconds() // 60))
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def embargo_words(embargo: EmbargoView, zone: ZoneInfo) -> str:
    """The badge of a dataset, in words."""
    if embargo.state == "open":
        return "Open"
    if embargo.state == "withdrawn":
        return "Withdrawn"
    if embargo.opens_at is None:
        return "Experiment running, embargo not yet counting"
    return f"Embargoed until {date_words(embargo.opens_at, zone)}"


def quantity_words(value: float | str, unit: str | None) -> str:
    """A header value with its unit; floats with up to six significant digits."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text
