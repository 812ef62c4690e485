"""The physics of a synthetic time-of-flight run: banks, spectrum, Bragg peaks and pulses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beamhub_reduction.synthetic.crystal import Crystal, build_reflections

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

H_OVER_MN = 3956.0340  # angstrom m / s, Planck's constant over the neutron mass. Source: CODATA 2018
L1_M = 20.0
FREQUENCY_HZ = 10.0
BAND_ANGSTROM = (0.5, 4.5)  # what the choppers let through; no overlap of pulses at 10 Hz
MODERATOR_K = 300.0
D_SHORTEST = 0.50  # angstrom; shorter lines lie in the background
D_RESOLVED = 0.85  # angstrom; above it the lines of all banks stand well apart
WEAKEST_PEAK = 0.01

BANK_SHAPE = (16, 32)  # tubes, pixels of a tube
FIRST_ID = 10_000  # ids of bank k start at k times this
N_DEAD, N_NOISY = 5, 3
DEAD, NOISY = 1 << 1, 1 << 4  # Source: NXdetector/pixel_mask
MASKED = 0xFFFF


@dataclass(frozen=True, slots=True)
class Bank:
    """A flat panel of tubes; all arrays have shape `BANK_SHAPE`.

    `distance_m` (L2) and the angles are float32 as the file holds them, so that whoever reads the file
    computes with the very values that the events were made with.
    """

    name: str
    detector_number: npt.NDArray[np.int32]
    distance_m: Float32Array
    two_theta_deg: Float32Array
    azimuth_deg: Float32Array
    mask: npt.NDArray[np.uint32]
    relative_width: float  # sigma of a peak in d, over d

    @property
    def flight_path_m(self) -> FloatArray:
        """L1 + L2 of every pixel, flat."""
        return L1_M + self.distance_m.astype(np.float64).ravel()

    @property
    def sin_theta(self) -> FloatArray:
        """Sine of half the scattering angle of every pixel, flat."""
        result: FloatArray = np.sin(np.radians(self.two_theta_deg.astype(np.float64).ravel()) / 2)
        return result


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one bank: pixel (flat position in the bank) and time of flight (microseconds), both (n,)."""

    pixel: IntArray
    time_us: Float32Array


def build_banks(seed: int) -> tuple[Bank, ...]:
    """Three banks, forward, at a right angle, and backward; dead and noisy pixels come from the seed."""
    described = (("bank1", 40.0, 1.2, 8e-3), ("bank2", 90.0, 1.5, 3.5e-3), ("bank3", 150.0, 2.0, 2e-3))
    return tuple(
        _flat_bank(name, angle, distance, width, i, seed)
        for i, (name, angle, distance, width) in enumerate(described, start=1)
    )


def _flat_bank(name: str, angle_deg: float, distance_m: float, width: float, i_bank: int, seed: int) -> Bank:
    tubes, pixels = BANK_SHAPE
    across, up = np.meshgrid(
        np.linspace(-0.10, 0.10, tubes) * distance_m,
        np.linspace(-0.15, 0.15, pixels) * distance_m,
        indexing="ij",
    )
    angle = np.radians(angle_deg)
    x = distance_m * np.sin(angle) + across * np.cos(angle)
    z = distance_m * np.cos(angle) - across * np.sin(angle)
    distance = np.sqrt(x**2 + up**2 + z**2)
    mask = np.zeros(BANK_SHAPE, dtype=np.uint32)
    chosen = np.random.default_rng([seed, 10, i_bank]).choice(mask.size, N_DEAD + N_NOISY, replace=False)
    mask.flat[chosen[:N_DEAD]] = DEAD
    mask.flat[chosen[N_DEAD:]] = NOISY
    return Bank(
        name=name,
        detector_number=np.arange(mask.size, dtype=np.int32).reshape(BANK_SHAPE) + FIRST_ID * i_bank,
        distance_m=distance.astype(np.float32),
        two_theta_deg=np.degrees(np.arccos(z / distance)).astype(np.float32),
        azimuth_deg=np.degrees(np.arctan2(up, x)).astype(np.float32),
        mask=mask,
        relative_width=width,
    )


def build_spectrum(wavelength_angstrom: FloatArray) -> FloatArray:
    """Incident flux per wavelength, highest near 1; zero outside the band. Same shape as its argument.

    A Maxwellian at the moderator's temperature, lambda^-5 exp(-949 / (T lambda^2)), and an epithermal tail.
    Source: Windsor, Pulsed Neutron Scattering (Taylor and Francis, 1981)
    """
    wavelength = np.clip(wavelength_angstrom, 0.05, None)
    best = np.sqrt(2 * 949.0 / (5 * MODERATOR_K))
    thermal = (best / wavelength) ** 5 * np.exp(2.5 * (1 - (best / wavelength) ** 2))
    flux = thermal + 0.05 / wavelength
    inside = (wavelength_angstrom >= BAND_ANGSTROM[0]) & (wavelength_angstrom <= BAND_ANGSTROM[1])
    return np.where(inside, flux, 0.0)


def build_peaks(crystal: Crystal, banks: tuple[Bank, ...]) -> tuple[FloatArray, list[FloatArray]]:
    """Lines of the crystal, and for each bank what its pixels get of each.

    Returns
    -------
    d of the lines, ascending, shape (n_peaks,), and one array (n_pixels, n_peaks) for each bank.

    Notes
    -----

    Intensity is flux(lambda) |F|^2 d^4 sin(theta) with multiplicity, lambda = 2 d sin(theta).
    Source: Buras and Gerward, Acta Cryst. A31 (1975) 372
    """
    lines = build_reflections(crystal, d_min_angstrom=D_SHORTEST)
    shares = []
    for bank in banks:
        sine = bank.sin_theta[:, np.newaxis]
        d = lines.d_angstrom[np.newaxis, :]
        share = build_spectrum(2 * d * sine) * lines.strength * d**4 * sine
        share[bank.mask.ravel() == DEAD] = 0.0
        shares.append(share)
    return lines.d_angstrom, shares


def draw_events(
    bank: Bank, *, d_angstrom: FloatArray, peaks: FloatArray, background: float, rng: np.random.Generator
) -> Events:
    """Poisson events of one bank, in no order.

    Parameters
    ----------
    d_angstrom:
        Lines, shape (n_peaks,).
    peaks:
        Expected events of each pixel in each line, shape (n_pixels, n_peaks).
    background:
        Expected events of a good pixel outside the lines, spread over the band as the spectrum is.
    """
    counts = rng.poisson(peaks)
    pixel, line = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    d = d_angstrom[line] * (1.0 + bank.relative_width * rng.standard_normal(pixel.size))
    wavelength = 2 * d * bank.sin_theta[pixel]
    mask = bank.mask.ravel()
    mean = np.where(mask == DEAD, 0.0, np.where(mask == NOISY, 20.0, 1.0)) * background
    noise_pixel = np.repeat(np.arange(mask.size), rng.poisson(mean))
    wavelength = np.concatenate([wavelength, _drawn_wavelengths(noise_pixel.size, rng)])
    pixel = np.concatenate([pixel, noise_pixel]).astype(np.int64)
    time_us = 1e6 * wavelength * bank.flight_path_m[pixel] / H_OVER_MN
    order = rng.permutation(pixel.size)
    return Events(pixel=pixel[order], time_us=time_us[order].astype(np.float32))


def _drawn_wavelengths(n: int, rng: np.random.Generator) -> FloatArray:
    edges = np.linspace(*BAND_ANGSTROM, 2001)
    weight = build_spectrum((edges[1:] + edges[:-1]) / 2)
    cumulative = np.concatenate([[0.0], np.cumsum(weight)])
    result: FloatArray = np.interp(rng.uniform(0, cumulative[-1], n), cumulative, edges)
    return result


def build_charge(n_pulses: int, seed: int) -> FloatArray:
    """Proton charge of each pulse in picocoulomb, shape (n_pulses,); zero while the accelerator had tripped.

    One early pulse and the last never have beam, so that a run of ten pulses or more has empty ones.
    """
    rng = np.random.default_rng([seed, 11])
    charge: FloatArray = 1.2e7 * (1 + 0.01 * rng.standard_normal(n_pulses))
    for first in np.flatnonzero(rng.random(n_pulses) < 0.004):
        charge[first : first + rng.geometric(0.1)] = 0.0
    if n_pulses >= 10:
        charge[[7, n_pulses - 1]] = 0.0
    return charge
