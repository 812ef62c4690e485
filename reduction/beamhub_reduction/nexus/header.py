"""What a catalogue wants to know of a file without reading its data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.nexus.closure import MissingLink, read_closure
from beamhub_reduction.nexus.errors import LimitExceeded, NexusError
from beamhub_reduction.nexus.events import find_event_groups
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack
from beamhub_reduction.nexus.geometry import HC_KEV_ANGSTROM, read_wavelength
from beamhub_reduction.nexus.text import as_text
from beamhub_reduction.nexus.tree import NexusFile, Node

MAX_PROVENANCE_CHARACTERS = 1_000_000
MAX_USERS = 100


@dataclass(frozen=True, slots=True)
class DetectorHeader:
    """One detector: the shape of its frames (n_frames, ny, nx), or of its pixels when it has events."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    n_frames: int
    n_events: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; None and empty where it says nothing.

    `users` are names only. `linked_files` are the real paths of all other files it needs, also through
    links of links and virtual sources; `missing_links` lead nowhere or out of the allowed roots.
    `provenance` and `evidence` are JSON texts of a product (NXprocess/provenance/data), not parsed.
    """

    path: str
    size_bytes: int
    entry: str
    entries: tuple[str, ...]
    title: str | None
    start_time: str | None
    end_time: str | None
    experiment_identifier: str | None
    definition: str | None
    run_number: str | None
    instrument: str | None
    instrument_short_name: str | None
    sample: str | None
    technique_pid: str | None
    technique_name: str | None
    users: tuple[str, ...]
    wavelength_angstrom: float | None
    energy_keV: float | None  # noqa: N815  # the unit's own spelling
    detectors: tuple[DetectorHeader, ...]
    n_frames: int
    n_frames_expected: int | None
    n_events: int
    n_pulses: int
    linked_files: tuple[str, ...]
    missing_links: tuple[MissingLink, ...]
    provenance: str | None
    evidence: str | None
    problems: tuple[str, ...]


def open_header(path: str | os.PathLike[str], allowed_roots: Roots = None) -> Header:
    """The header of a NeXus or HDF5 file that, with its links, lies in the allowed roots (None: anywhere).

    HDF5 can be made to loop or to crash by a few wrong bytes (tried: the heap of an attribute): a service
    calls this in a child process with limits.

    Raises
    ------
    FileMissing, FileDamaged, OutsideRoots
        If the file itself cannot be read. Broken links and odd contents are reported in the header.
    LimitExceeded
        If the file is deeper or larger than the reader agrees to walk.
    """
    with NexusFile(path, allowed_roots) as nexus:
        return read_header(nexus)


def read_header(nexus: NexusFile) -> Header:
    """`open_header` for a file that is open already; the same errors."""
    real, problems = nexus.path, list[str]()
    entries = nexus.entries()
    entry = _main_entry(entries) or nexus.node("/")
    stack = _stack_or_none(nexus, problems)
    if stack is not None and stack.entry != entry.target.path:
        entry = nexus.node(stack.entry)
    detectors, n_pulses = _event_detectors(entry, problems)
    if stack is not None:
        detectors = (_frame_detector(stack), *detectors)
    instrument = next(iter(entry.groups("NXinstrument")), None)
    technique = entry.get("technique")
    wavelength = read_wavelength(entry)
    closure = read_closure(real, roots=nexus.roots)
    return Header(
        path=real,
        size_bytes=Path(real).stat().st_size,
        entry=entry.target.path,
        entries=tuple(e.target.path for e in entries),
        title=entry.text("title"),
        start_time=entry.text("start_time"),
        end_time=entry.text("end_time"),
        experiment_identifier=_first(nexus, entries, entry, "experiment_identifier"),
        definition=entry.text("definition"),
        run_number=_number_or_text(entry, "run_number") or _number_or_text(entry, "scan_number"),
        instrument=instrument.text("name") if instrument else entry.attribute_text("instrument"),
        instrument_short_name=_short_name(instrument),
        sample=_sample(entry),
        technique_pid=technique.text("pid") if technique else None,
        technique_name=technique.text("name") if technique else None,
        users=_users(entry),
        wavelength_angstrom=wavelength,
        energy_keV=HC_KEV_ANGSTROM / wavelength if wavelength and _is_photon(entry) else None,
        detectors=detectors,
        n_frames=stack.n_present if stack else 0,
        n_frames_expected=stack.n_expected if stack else None,
        n_events=sum(d.n_events for d in detectors),
        n_pulses=n_pulses,
        linked_files=tuple(sorted(closure.files)),
        missing_links=tuple(closure.missing),
        provenance=_note(entry, "provenance"),
        evidence=_note(entry, "evidence"),
        problems=(*problems, *closure.problems),
    )


def _main_entry(entries: list[Node]) -> Node | None:
    """The first entry with events, else the first of all; frames are looked for by the caller."""
    return next((e for e in entries if find_event_groups(e)), entries[0] if entries else None)


def _stack_or_none(nexus: NexusFile, problems: list[str]) -> FrameStack | None:
    try:
        return read_frame_stack(nexus)
    except LimitExceeded:
        raise
    except NexusError as error:
        if type(error).__name__ != "NoFrames":
            problems.append(str(error))
        return None


def _frame_detector(stack: FrameStack) -> DetectorHeader:
    name = stack.detector.rsplit("/", 1)[-1]
    return DetectorHeader(
        name, stack.detector, (stack.n_present, *stack.shape), stack.dtype, stack.n_present, 0
    )


def _event_detectors(entry: Node, problems: list[str]) -> tuple[tuple[DetectorHeader, ...], int]:
    """The detectors with events, and the number of pulses of the one that has most."""
    found: list[DetectorHeader] = []
    n_pulses = 0
    for detector, events in find_event_groups(entry):
        ids, pulses, pixels = (
            events.get("event_id"), events.get("event_time_zero"), detector.get("detector_number"),
        )  # fmt: skip
        if ids is None or not ids.is_dataset:
            problems.append(f"{events.target.path} has no event_id")
            continue
        shape = pixels.shape if pixels is not None and pixels.is_dataset else ()
        found.append(DetectorHeader(detector.name, detector.target.path, shape, "", 0, ids.size))
        n_pulses = max(n_pulses, pulses.size if pulses is not None and pulses.is_dataset else 0)
    return tuple(found), n_pulses


def _first(nexus: NexusFile, entries: list[Node], entry: Node, name: str) -> str | None:
    """The value in the entry itself, else in the first entry that has one."""
    return next((text for node in (entry, *entries) if (text := node.text(name))), None)


def _number_or_text(entry: Node, name: str) -> str | None:
    """A number that some write as text: ISIS and BLISS as an integer."""
    number = entry.number(name)
    if number is not None and number == int(number) and 0 <= number < 2**53:
        return str(int(number))
    return entry.text(name)


def _short_name(instrument: Node | None) -> str | None:
    if instrument is None:
        return None
    name = instrument.get("name")
    return instrument.attribute_text("short_name") or (name.attribute_text("short_name") if name else None)


def _sample(entry: Node) -> str | None:
    return next((text for sample in entry.groups("NXsample") if (text := sample.text("name"))), None)


def _users(entry: Node) -> tuple[str, ...]:
    names = (user.text("name") for user in entry.groups("NXuser")[:MAX_USERS])
    return tuple(name for name in names if name)


def _is_photon(entry: Node) -> bool:
    """Whether a wavelength may be turned into a photon energy: not for a neutron source."""
    sources = [s for i in entry.groups("NXinstrument") for s in i.groups("NXsource")]
    words = " ".join(filter(None, (s.text(n) for s in sources for n in ("probe", "type"))))
    return "neutron" not in words.lower() and "spallation" not in words.lower()


def _note(entry: Node, name: str) -> str | None:
    for process in entry.groups("NXprocess"):
        note = process.get(name)
        data = note.get("data") if note is not None else None
        if data is not None and data.is_dataset and data.size == 1:
            text = as_text(data.values(), MAX_PROVENANCE_CHARACTERS + 1)
            return text if text and len(text) <= MAX_PROVENANCE_CHARACTERS else None
    return None
