"""Units of measurement from a closed table, so that a unit's text is looked up and never evaluated.

A unit is a product of factors such as `keV`, `mm^2`, `kg*m/s^2` or `1/angstrom`, each a name of the table
with an SI prefix where it may have one. Its dimension is written with the SI base units, `m.s-1`; a plain
number has the dimension "". Source: SI Brochure, 9th edition (2019), tables 2 to 8; constants of CODATA 2018.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

MAX_UNIT = 60
MAX_FACTORS = 8
_BASES = ("m", "kg", "s", "A", "K", "mol", "cd", "rad", "B")
_PREFIXES = {
    "Q": 30, "R": 27, "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
    "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21, "y": -24, "r": -27,
    "q": -30,
}  # fmt: skip
_LONG_PREFIXES = {
    "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deci": -1, "centi": -2, "milli": -3,
    "micro": -6, "nano": -9, "pico": -12, "femto": -15,
}  # fmt: skip
_FACTOR = re.compile(r"([A-Za-zÅ°%μµ_]+|1)(?:\^|\*\*)?([+-]?[0-9])?")
_CHARGE, _ATM, _DAY_S = 1.602176634e-19, 101_325.0, 86_400.0

# Names; factor to SI; dimension; whether prefixes go with it.
_TABLE: tuple[tuple[str, float, str, bool], ...] = (
    ("m meter metre meters metres", 1, "m", True),
    ("angstrom angstroms Å Angstrom ang", 1e-10, "m", False),
    ("micron microns um", 1e-6, "m", False),
    ("inch", 0.0254, "m", False),
    ("g gram grams", 1e-3, "kg", True),
    ("u Da", 1.66053906660e-27, "kg", False),
    ("s sec second seconds", 1, "s", True),
    ("min minute minutes", 60, "s", False),
    ("h hr hour hours", 3600, "s", False),
    ("day days d", _DAY_S, "s", False),
    ("Hz hertz", 1, "s-1", True),
    ("A ampere amp amps amperes", 1, "A", True),
    ("K kelvin", 1, "K", True),
    ("mol mole", 1, "mol", True),
    ("M molar", 1e3, "m-3.mol", True),
    ("cd candela", 1, "cd", True),
    ("rad radian radians", 1, "rad", True),
    ("deg degree degrees °", math.pi / 180, "rad", False),
    ("arcmin", math.pi / 10_800, "rad", False),
    ("arcsec", math.pi / 648_000, "rad", False),
    ("sr", 1, "rad2", True),
    ("N newton", 1, "m.kg.s-2", True),
    ("J joule joules", 1, "m2.kg.s-2", True),
    ("erg", 1e-7, "m2.kg.s-2", False),
    ("eV electronvolt", _CHARGE, "m2.kg.s-2", True),
    ("Wh", 3600, "m2.kg.s-2", True),
    ("W watt", 1, "m2.kg.s-3", True),
    ("Pa pascal", 1, "m-1.kg.s-2", True),
    ("bar", 1e5, "m-1.kg.s-2", True),
    ("atm", _ATM, "m-1.kg.s-2", False),
    ("torr Torr mmHg", _ATM / 760, "m-1.kg.s-2", True),
    ("psi", 6894.757293168361, "m-1.kg.s-2", False),
    ("V volt volts", 1, "m2.kg.s-3.A-1", True),
    ("C coulomb", 1, "s.A", True),
    ("ohm Ohm", 1, "m2.kg.s-3.A-2", True),
    ("F farad", 1, "m-2.kg-1.s4.A2", True),
    ("Wb", 1, "m2.kg.s-2.A-1", True),
    ("T tesla", 1, "kg.s-2.A-1", True),
    ("G gauss Gauss", 1e-4, "kg.s-2.A-1", True),
    ("H henry", 1, "m2.kg.s-2.A-2", True),
    ("S siemens", 1, "m-2.kg-1.s3.A2", True),
    ("Gy gray", 1, "m2.s-2", True),
    ("barn", 1e-28, "m2", True),
    ("L l liter litre", 1e-3, "m3", True),
    ("b bit bits", 0.125, "B", True),
    ("B byte bytes", 1, "B", True),
    ("1 counts count cts pixel pixels px frames dimensionless au", 1, "", False),
    ("% percent", 1e-2, "", False),
    ("ppm", 1e-6, "", False),
)
_AFFINE = {
    "degc": (1.0, 273.15), "celsius": (1.0, 273.15), "°c": (1.0, 273.15),
    "degf": (5 / 9, 273.15 - 32 * 5 / 9), "fahrenheit": (5 / 9, 273.15 - 32 * 5 / 9),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: `number * factor + offset` is the number in SI."""

    dimension: str
    factor: float
    offset: float = 0.0

    def to_si(self, number: float) -> float:
        """A number of this unit in SI."""
        return number * self.factor + self.offset

    def from_si(self, number: float) -> float:
        """A number in SI as one of this unit."""
        return (number - self.offset) / self.factor


@lru_cache(maxsize=2_000)
def find_unit(text: str) -> Unit | None:
    """The unit that a text names; None for what is no unit of the table. Nothing in it is evaluated."""
    if len(text) > MAX_UNIT:
        return None
    plain = text.strip()
    if plain in ("", "a.u.", "arb. units"):
        return Unit("", 1.0)
    if plain.lower().replace(" ", "") in _AFFINE:
        factor, offset = _AFFINE[plain.lower().replace(" ", "")]
        return Unit("K", factor, offset)
    return _product(plain.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u"))


def in_si(number: float | None, unit: str | None) -> tuple[float, str] | None:
    """A number in SI and its dimension; None for none, and for a unit that we do not know."""
    known = find_unit(unit or "")
    if number is None or known is None:
        return None
    value = known.to_si(number)
    return (value, known.dimension) if math.isfinite(value) else None


def _product(text: str) -> Unit | None:
    factor, powers = 1.0, dict.fromkeys(_BASES, 0)
    for name, power in _factors(text):
        known = _named(name)
        if known is None or abs(power) > 9:
            return None
        factor *= known[0] ** power
        for base, exponent in known[1]:
            powers[base] += exponent * power
    if not 0 < factor < math.inf:
        return None
    return Unit(".".join(_powered(base, n) for base, n in powers.items() if n), factor)


def _factors(text: str) -> Iterator[tuple[str, int]]:
    """Names with their powers; a name that is none stands for a text that is no product."""
    parts = re.split(r"\s*([*·/])\s*|\s+", text.replace("**", "^"))
    sign, n_factors = 1, 0
    for part in parts:
        if part is None or part in ("*", "·"):
            continue
        if part == "/":
            sign = -1
            continue
        match, n_factors = _FACTOR.fullmatch(part), n_factors + 1
        if match is None or n_factors > MAX_FACTORS:
            yield "", 1
            return
        yield match[1], sign * int(match[2] or 1)
        sign = 1


def _named(name: str) -> tuple[float, tuple[tuple[str, int], ...]] | None:
    if name in _UNITS:
        return _UNITS[name][:2]
    for prefixes in (_PREFIXES, _LONG_PREFIXES):
        for prefix, power in prefixes.items():
            rest = _UNITS.get(name[len(prefix) :]) if name.startswith(prefix) else None
            if rest is not None and rest[2]:
                return rest[0] * 10.0**power, rest[1]
    return None


def _exponents(dimension: str) -> tuple[tuple[str, int], ...]:
    found = (re.fullmatch(r"([A-Za-z]+)(-?\d)?", part) for part in dimension.split(".") if part)
    return tuple((match[1], int(match[2] or 1)) for match in found if match)


def _powered(base: str, power: int) -> str:
    return base if power == 1 else f"{base}{power}"


_UNITS = {
    name: (float(factor), _exponents(dimension), prefixed)
    for names, factor, dimension, prefixed in _TABLE
    for name in names.split()
}
