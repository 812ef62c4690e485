"""Cubic crystals and their powder reflections: where honest peaks lie, and how strong they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FACE_CENTRED = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_EIGHTHS = tuple(product((0.25, 0.75), repeat=3))
_BORON_X = 0.1996  # LaB6 boron position. Source: NIST certificate SRM 660c
_BORON = tuple(
    tuple(0.5 if i != axis else sign * _BORON_X % 1.0 for i in range(3))
    for axis in range(3)
    for sign in (1.0, -1.0)
)


@dataclass(frozen=True, slots=True)
class Atom:
    """One kind of atom of the unit cell, with its places in fractions of the edge.

    `scattering` is its amplitude relative to the other atoms: the number of electrons for X-rays
    (the form factor at zero angle, so heights are rough at high angle; positions are exact), the
    bound coherent scattering length in fm for neutrons.
    """

    element: str
    scattering: float
    places: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Crystal:
    """A cubic crystal."""

    name: str
    formula: str
    lattice_angstrom: float
    atoms: tuple[Atom, ...]
    debye_waller_angstrom2: float = 0.5


@dataclass(frozen=True, slots=True)
class Reflections:
    """Powder lines of one crystal, ascending in d: all equivalent planes together.

    `d_angstrom` has shape (n_lines,), `strength` too: the sum of |F|^2 over the equivalent planes.
    """

    d_angstrom: FloatArray
    strength: FloatArray


def _diamond(element: str, scattering: float) -> tuple[Atom, ...]:
    places = tuple(tuple((x + shift) % 1.0 for x in place) for place in FACE_CENTRED for shift in (0.0, 0.25))
    return (Atom(element, scattering, places),)


def _perovskite(
    heavy: tuple[str, float], small: tuple[str, float], light: tuple[str, float]
) -> tuple[Atom, ...]:
    faces = ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
    return (
        Atom(*heavy, ((0.0, 0.0, 0.0),)),
        Atom(*small, ((0.5, 0.5, 0.5),)),
        Atom(*light, faces),
    )


XRAY_CRYSTALS = {
    crystal.name: crystal
    for crystal in (
        # Lattice edges at room temperature. Source: NIST certificates SRM 660c (LaB6), SRM 674b (CeO2),
        # SRM 640f (Si); Swanson and Tatge, NBS Circular 539 (Ni), NBS Circular 539 III (SrTiO3).
        Crystal("LaB6", "LaB6", 4.156826, (Atom("La", 57, ((0.0, 0.0, 0.0),)), Atom("B", 5, _BORON))),
        Crystal("CeO2", "CeO2", 5.411651, (Atom("Ce", 58, FACE_CENTRED), Atom("O", 8, _EIGHTHS))),
        Crystal("SrTiO3", "SrTiO3", 3.9050, _perovskite(("Sr", 38), ("Ti", 22), ("O", 8))),
        Crystal("Ni", "Ni", 3.5238, (Atom("Ni", 28, FACE_CENTRED),)),
        Crystal("Si", "Si", 5.431144, _diamond("Si", 14)),
    )
}
NEUTRON_CRYSTALS = {
    crystal.name: crystal
    for crystal in (
        # Scattering lengths in fm. Source: Sears, Neutron News 3 (1992) 26, doi 10.1080/10448639208218770
        Crystal("Si", "Si", 5.431144, _diamond("Si", 4.1491)),
        Crystal("diamond", "C", 3.56712, _diamond("C", 6.6460), debye_waller_angstrom2=0.15),
    )
}


def random_crystal(name: str, seed: int) -> Crystal:
    """A perovskite whose edge, between 3.70 and 4.30 angstrom, nobody can know beforehand."""
    edge = float(np.random.default_rng([seed, 0xA11]).uniform(3.70, 4.30))
    return replace(XRAY_CRYSTALS["SrTiO3"], name=name, formula=name, lattice_angstrom=round(edge, 5))


def build_reflections(crystal: Crystal, *, d_min_angstrom: float) -> Reflections:
    """The powder lines with d of at least `d_min_angstrom`; extinct ones are left out.

    d = a / sqrt(h^2 + k^2 + l^2), F = sum_j f_j exp(2 pi i (h x_j + k y_j + l z_j)) with the isotropic
    Debye-Waller factor exp(-B / 4d^2).
    Source: International Tables for Crystallography C, section 6.1.1.
    """
    top = int(crystal.lattice_angstrom / d_min_angstrom) + 1
    indices = np.array([hkl for hkl in product(range(-top, top + 1), repeat=3) if any(hkl)], dtype=float)
    squared = (indices**2).sum(axis=1)
    near = crystal.lattice_angstrom / np.sqrt(squared) >= d_min_angstrom
    indices, squared = indices[near], squared[near]
    amplitude = np.zeros(len(indices), dtype=complex)
    for atom in crystal.atoms:
        phases = indices @ np.array(atom.places).T
        amplitude += atom.scattering * np.exp(2j * np.pi * phases).sum(axis=1)
    lines: dict[int, float] = defaultdict(float)
    for key, value in zip(squared.astype(int).tolist(), (np.abs(amplitude) ** 2).tolist(), strict=True):
        lines[key] += value
    strongest = max(lines.values())
    kept = sorted((key for key, value in lines.items() if value > 1e-6 * strongest), reverse=True)
    d = crystal.lattice_angstrom / np.sqrt(np.array(kept, dtype=float))
    thermal = np.exp(-crystal.debye_waller_angstrom2 / (2 * d**2))
    return Reflections(d_angstrom=d, strength=np.array([lines[key] for key in kept]) * thermal)
