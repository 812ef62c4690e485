"""Neutron time-of-flight runs as NXevent_data: several banks, empty pulses, a proton charge per pulse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beamhub_core.techniques import TOF_POWDER_DIFFRACTION
from beamhub_reduction.synthetic import tree
from beamhub_reduction.synthetic.crystal import NEUTRON_CRYSTALS, Crystal, random_crystal
from beamhub_reduction.synthetic.tof_model import (
    D_RESOLVED,
    FREQUENCY_HZ,
    H_OVER_MN,
    L1_M,
    MASKED,
    WEAKEST_PEAK,
    Bank,
    Events,
    FloatArray,
    build_banks,
    build_charge,
    build_peaks,
    build_spectrum,
    draw_events,
)
from beamhub_reduction.synthetic.truth import Truth

CREATOR = "beamhub_reduction.synthetic"
PEAK_SHARE = 0.55  # of the events of good pixels
N_TIME_BINS = 500
TIME_MAX_US = 26_000.0  # beyond the slowest neutron of the band, broadened, on the longest path

Tick = Callable[[int], None]
PulseArray = npt.NDArray[np.uint64]


def _silent(_done: int) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True, slots=True)
class TofOptions:
    """What a time-of-flight run may have besides its sample.

    `crystal` is None for the known crystal of the sample's name or else a random one from the seed.
    `tick` is called with the number of banks written since the last call, three in all.
    """

    run_number: int = 41001
    instrument: str = "tofd"
    n_pulses: int = 3000
    crystal: Crystal | None = None
    title: str | None = None
    user: str = "Demo Measurement Team"
    tick: Tick = _silent


@dataclass(frozen=True, slots=True)
class _BankEvents:
    """Events of a bank sorted by pulse; `first_event` (n_pulses,) is NXevent_data/event_index."""

    bank: Bank
    events: Events
    first_event: PulseArray
    n_per_pulse: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Labels:
    """The words of a run."""

    proposal: str
    sample: str
    seed: int
    crystal: Crystal
    options: TofOptions

    @property
    def stem(self) -> str:
        return f"{self.options.instrument.upper()}_{self.options.run_number}"

    @property
    def title(self) -> str:
        return self.options.title or f"{self.sample} powder, time of flight, run {self.options.run_number}"

    @property
    def started_at(self) -> datetime:
        return tree.measurement_time(self.seed)


def write_tof_run(
    folder: Path,
    *,
    proposal: str,
    sample: str,
    seed: int,
    n_events: int = 1_500_000,
    options: TofOptions = TofOptions(),
) -> Truth:
    """Write one complete time-of-flight run and return what was planted in it.

    Parameters
    ----------
    folder:
        Root of a storage pool. The file becomes
        `<folder>/<proposal>/<instrument>/TOFD_<run>/TOFD_<run>.nxs`; the proposal's `processed` folder is
        made when it is missing.
    sample:
        Name of a crystal that we know, or any other name: then the lattice comes from the seed.
    seed:
        The same seed gives the same file, byte by byte.
    n_events:
        About how many events; the number itself is a Poisson draw.

    Raises
    ------
    AlreadyThere
        If the run exists.
    ValueError
        If a name is no path component, or there is no pulse.
    """
    tree.check_names(proposal, sample, options.instrument)
    if options.n_pulses < 1:
        raise ValueError(f"a run has at least one pulse, not {options.n_pulses}")
    crystal = options.crystal or NEUTRON_CRYSTALS.get(sample) or random_crystal(sample, seed)
    labels = _Labels(proposal, sample, seed, crystal, options)
    target = folder / proposal / options.instrument / labels.stem
    (folder / proposal / "processed").mkdir(parents=True, exist_ok=True)
    charge = build_charge(options.n_pulses, seed)
    banks = build_banks(seed)
    lines, shares = build_peaks(crystal, banks)
    with tree.written_together((target,)) as (inside,):
        drawn = _drawn_banks(banks, lines, shares, charge, (seed, n_events))
        _write_run(inside / f"{labels.stem}.nxs", drawn, charge, labels)
    heights = np.sum([share.sum(axis=0) for share in shares], axis=0) / lines**2
    return _truth(labels, target / f"{labels.stem}.nxs", drawn, lines=lines, heights=heights)


def _truth(
    labels: _Labels, file: Path, drawn: list[_BankEvents], *, lines: FloatArray, heights: FloatArray
) -> Truth:
    """The facts of a run; of its lines (n_lines,) those that stand well apart and are not too weak."""
    together = np.sum([item.n_per_pulse for item in drawn], axis=0)
    good = [(item.bank.mask.ravel() & MASKED) == 0 for item in drawn]
    n_used = sum(np.count_nonzero(mask[item.events.pixel]) for mask, item in zip(good, drawn, strict=True))
    apart = lines >= D_RESOLVED
    clear = apart & (heights >= WEAKEST_PEAK * heights[apart].max())
    return Truth(
        stem=labels.stem,
        file=str(file.absolute()),
        proposal=labels.proposal,
        instrument=labels.options.instrument,
        sample=labels.sample,
        title=labels.title,
        technique=TOF_POWDER_DIFFRACTION,
        axis="d_angstrom",
        peaks=tuple(lines[clear].tolist()),
        peak_weights=tuple((heights[clear] / heights[clear].max()).tolist()),
        lattice_angstrom=labels.crystal.lattice_angstrom,
        seed=labels.seed,
        n_pixels_masked=int(sum(np.count_nonzero(~mask) for mask in good)),
        counts_total=int(n_used),
        events=int(together.sum()),
        pulses=labels.options.n_pulses,
        empty_pulses=int(np.count_nonzero(together == 0)),
    )


def _drawn_banks(
    banks: tuple[Bank, ...],
    lines: FloatArray,
    shares: list[FloatArray],
    charge: FloatArray,
    size: tuple[int, int],
) -> list[_BankEvents]:
    """Draw every bank; `size` is (seed, about how many events)."""
    seed, n_events = size
    beam_on = bool(charge.any())
    scale = PEAK_SHARE * n_events / sum(float(share.sum()) for share in shares)
    n_pixels = sum(bank.mask.size for bank in banks)
    background = (1 - PEAK_SHARE) * n_events / n_pixels
    drawn = []
    for i, (bank, share) in enumerate(zip(banks, shares, strict=True)):
        rng = np.random.default_rng([seed, 12, i])
        peaks = share * scale * beam_on
        events = draw_events(bank, d_angstrom=lines, peaks=peaks, background=background * beam_on, rng=rng)
        share_of_pulse = charge / charge.sum() if beam_on else np.full(len(charge), 1 / len(charge))
        n_per_pulse = rng.multinomial(len(events.pixel), share_of_pulse)
        first = np.concatenate([[0], np.cumsum(n_per_pulse)[:-1]]).astype(np.uint64)
        drawn.append(_BankEvents(bank=bank, events=events, first_event=first, n_per_pulse=n_per_pulse))
    return drawn


def _write_run(path: Path, drawn: list[_BankEvents], charge: FloatArray, labels: _Labels) -> None:
    with tree.begin_file(path, default="entry", started_at=labels.started_at, creator=CREATOR) as file:
        entry = tree.add_group(file, "entry", "NXentry", default="data")
        _add_labels(entry, labels)
        seconds = np.arange(len(charge)) / FREQUENCY_HZ
        begun = labels.started_at.isoformat()
        instrument = _add_instrument(entry, labels)
        for item in drawn:
            events = _add_bank(instrument, item)
            tree.add_field(events, "event_time_zero", seconds, units="second", offset=begun)
            labels.options.tick(1)
        tree.add_field(entry, "total_counts", np.uint64(sum(len(item.events.pixel) for item in drawn)))
        tree.add_field(entry, "total_pulses", np.uint64(len(charge)))
        tree.add_field(entry, "proton_charge", float(charge.sum()), units="picoCoulomb")
        log = tree.add_group(tree.add_group(entry, "DASlogs", "NXcollection"), "proton_charge", "NXlog")
        tree.add_field(log, "time", seconds, units="second", start=begun)
        tree.add_field(log, "value", charge, units="picoCoulomb")
        _add_histograms(entry, drawn, labels.seed)


def _add_labels(entry: Any, labels: _Labels) -> None:
    duration_s = labels.options.n_pulses / FREQUENCY_HZ
    tree.add_fields(
        entry,
        title=labels.title,
        experiment_identifier=labels.proposal,
        run_number=str(labels.options.run_number),
        start_time=labels.started_at.isoformat(),
        end_time=(labels.started_at + timedelta(seconds=duration_s)).isoformat(),
    )
    tree.add_field(entry, "duration", duration_s, units="second")
    tree.add_technique(entry, TOF_POWDER_DIFFRACTION)
    sample = tree.add_group(entry, "sample", "NXsample")
    tree.add_fields(sample, name=labels.sample, chemical_formula=labels.crystal.formula)
    tree.add_fields(
        tree.add_group(entry, "user", "NXuser"), name=labels.options.user, role="principal_investigator"
    )


def _add_instrument(entry: Any, labels: _Labels) -> Any:
    name = labels.options.instrument
    instrument = tree.add_group(entry, "instrument", "NXinstrument")
    tree.add_field(instrument, "name", name.upper(), short_name=name)
    source = tree.add_group(instrument, "source", "NXsource")
    tree.add_fields(source, name="Demo spallation source", type="Spallation Neutron Source", probe="neutron")
    tree.add_field(source, "frequency", FREQUENCY_HZ, units="Hz")
    moderator = tree.add_group(instrument, "moderator", "NXmoderator")
    tree.add_fields(moderator, type="H2O")
    tree.add_field(moderator, "distance", -L1_M, units="m")
    return instrument


def _add_bank(instrument: Any, item: _BankEvents) -> Any:
    """One NXdetector with its events; returns the NXevent_data group."""
    bank = item.bank
    detector = tree.add_group(instrument, bank.name, "NXdetector")
    tree.add_fields(
        detector, local_name=bank.name, detector_number=bank.detector_number, pixel_mask=bank.mask
    )
    tree.add_field(detector, "distance", bank.distance_m, units="m")
    tree.add_field(detector, "polar_angle", bank.two_theta_deg, units="deg")
    tree.add_field(detector, "azimuthal_angle", bank.azimuth_deg, units="deg")
    events = tree.add_group(detector, "events", "NXevent_data")
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "chunks": (65536,)}
    ids = bank.detector_number.ravel()[item.events.pixel]
    for name, values in (("event_id", ids), ("event_time_offset", item.events.time_us)):
        # A chunk may not be larger than a fixed-size dataset: a small run gets an extensible one.
        events.create_dataset(name, data=values, maxshape=(None,), **packed)
    events["event_time_offset"].attrs["units"] = "microsecond"
    tree.add_fields(events, event_index=item.first_event, total_counts=np.uint64(len(ids)))
    return events


def _add_histograms(entry: Any, drawn: list[_BankEvents], seed: int) -> None:
    """The beam monitor's spectrum, and all events over time of flight as the default plot."""
    edges = np.linspace(0.0, TIME_MAX_US, N_TIME_BINS + 1)
    counts = np.zeros(N_TIME_BINS, dtype=np.int64)
    for item in drawn:
        counts += np.histogram(item.events.time_us, bins=edges)[0]
    plot = tree.add_group(entry, "data", "NXdata", signal="counts", axes=["time_of_flight"])
    tree.add_field(plot, "counts", counts, units="counts")
    tree.add_field(plot, "time_of_flight", edges, units="microsecond")
    monitor = tree.add_group(entry, "monitor1", "NXmonitor")
    centres = (edges[1:] + edges[:-1]) / 2
    flux = build_spectrum(centres * 1e-6 * H_OVER_MN / (L1_M - 1.0))
    readings = np.random.default_rng([seed, 13]).poisson(2000 * flux).astype(np.int64)
    tree.add_field(monitor, "data", readings, units="counts")
    tree.add_field(monitor, "time_of_flight", edges, units="microsecond")
    tree.add_field(monitor, "distance", -1.0, units="m")
    tree.add_fields(monitor, mode="monitor")
