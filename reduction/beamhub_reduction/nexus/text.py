"""Text, names and units as they stand in files of many writers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

MAX_TEXT = 4096

_LENGTH_M = {
    "m": 1.0, "meter": 1.0, "metre": 1.0, "meters": 1.0, "metres": 1.0,
    "cm": 1e-2, "mm": 1e-3, "millimeter": 1e-3, "millimetre": 1e-3,
    "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micron": 1e-6, "microns": 1e-6, "micrometer": 1e-6,
    "nm": 1e-9, "nanometer": 1e-9, "nanometre": 1e-9, "pm": 1e-12, "km": 1e3,
    "centimeter": 1e-2, "centimetre": 1e-2, "millimeters": 1e-3, "millimetres": 1e-3, "micrometre": 1e-6,
    "micrometers": 1e-6, "meter(s)": 1.0, "inch": 0.0254, "in": 0.0254,
    "a": 1e-10, "å": 1e-10, "angstrom": 1e-10, "angstroms": 1e-10, "ångström": 1e-10, "angstroem": 1e-10,
}  # fmt: skip
_ANGLE_RAD = {
    "rad": 1.0, "radian": 1.0, "radians": 1.0, "mrad": 1e-3,
    "deg": np.pi / 180, "degree": np.pi / 180, "degrees": np.pi / 180, "°": np.pi / 180,
    "urad": 1e-6, "µrad": 1e-6, "μrad": 1e-6, "milliradian": 1e-3, "mdeg": np.pi / 180e3,
    "arcmin": np.pi / 10_800, "arcsec": np.pi / 648_000,
}  # fmt: skip
_TIME_S = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6,
    "ns": 1e-9, "nanosecond": 1e-9, "nanoseconds": 1e-9, "ps": 1e-12, "picosecond": 1e-12,
    "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "day": 86400.0,
}  # fmt: skip
_ENERGY_KEV = {
    "kev": 1.0, "ev": 1e-3, "kiloelectronvolt": 1.0, "electronvolt": 1e-3, "j": 1 / 1.602176634e-16,
}  # fmt: skip
_ENERGY_BY_CASE = {"meV": 1e-6, "MeV": 1e3, "GeV": 1e6}  # a factor of 1e9 lies in one capital letter
_CHARGE_PC = {
    "picocoulomb": 1.0, "picocoulombs": 1.0, "pc": 1.0, "nc": 1e3, "uc": 1e6, "µc": 1e6, "microcoulomb": 1e6,
    "c": 1e12, "coulomb": 1e12, "uah": 3.6e9, "microamp-hour": 3.6e9, "microamp*hour": 3.6e9,
}  # fmt: skip
_TABLES: dict[str, dict[str, Any]] = {
    "m": _LENGTH_M, "rad": _ANGLE_RAD, "s": _TIME_S, "keV": _ENERGY_KEV, "pC": _CHARGE_PC,
}  # fmt: skip


def as_text(value: object, limit: int = MAX_TEXT) -> str | None:
    """The text in an attribute or dataset value of any string type, or None when it holds none.

    Bytes are read as UTF-8 with a replacement for what is not; arrays give their first element;
    text behind a NUL and blanks around it are dropped; more than `limit` characters are cut.
    """
    while isinstance(value, (np.ndarray, list, tuple)):
        if len(np.shape(value)) == 0:
            value = value.item()  # type: ignore[union-attr]  # a 0-d ndarray
        elif len(value) == 0:
            return None
        else:
            value = value[0]
    if isinstance(value, bytes):
        value = value[: 4 * limit].decode("utf-8", errors="replace")
    if not isinstance(value, str):
        return None
    cleaned = "".join(c if c.isprintable() else " " for c in value.split("\0", 1)[0][:limit]).strip()
    return cleaned or None


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that compares runs of digits as numbers: 2.1 before 10.1.

    Source: BLISS writes one entry per scan and sub-scan, named '<scan>.<subscan>'.
    """
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    keys = ((0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in pieces)
    return (*keys, (2, 0, name))  # '1' and '01' have an order too


def unit_factor(units: str | None, wanted: str) -> float | None:
    """The factor from `units` to `wanted` ('m', 'rad', 's', 'keV', 'pC'), or None when unknown.

    Units that are absent, empty or a NeXus category ('NX_LENGTH') count as `wanted` itself, the
    NeXus default for all but angles, whose default is the degree.
    """
    table = _TABLES[wanted]
    if not units or units.startswith("NX_"):
        return float(np.pi / 180) if wanted == "rad" else 1.0
    if wanted == "keV" and units.strip() in _ENERGY_BY_CASE:
        return _ENERGY_BY_CASE[units.strip()]
    factor = table.get(units.strip().lower())
    return None if factor is None else float(factor)
