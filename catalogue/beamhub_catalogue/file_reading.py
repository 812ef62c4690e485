"""One file read into a report, in the confined child: the reader's header and what the mapping finds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from beamhub_catalogue.evidence_figures import evidence_figures
from beamhub_catalogue.file_report import (
    MAX_LINKED,
    MAX_MISSING,
    MAX_PARAMETERS,
    MAX_PATH,
    MAX_TEXT,
    FileReport,
    FileRequest,
    ReportedLink,
    ReportedParameter,
    ReportedSample,
    short_text,
)
from beamhub_catalogue.mapped_fields import MappedFields, find_unmapped, map_fields
from beamhub_catalogue.nexus_mapping import NexusMapping
from beamhub_reduction.nexus import Header, NexusFile, read_header

MAX_NAME_BYTES = 255


def read_file(request: FileRequest, mapping: NexusMapping, roots: tuple[str, ...]) -> FileReport:
    """The report on a file, without its preview.

    Raises
    ------
    NexusError
        As `beamhub_reduction.nexus.open_header` does.
    """
    with NexusFile(request.path, roots) as nexus:
        header = read_header(nexus)
        if not header.entries:
            return FileReport(is_nexus=False)
        entry = nexus.node(header.entry)
        mapped = map_fields(nexus, entry, mapping)
        unmapped = find_unmapped(nexus, entry, mapping) if request.explain else []
    report = _report(header, mapped, roots)
    told = {"sha256": _sha256(header.path)} if request.hash else {}
    if not request.explain:
        return report.model_copy(update=told)
    return report.model_copy(update=told | {"found_at": tuple(mapped.found_at), "unmapped": tuple(unmapped)})


def _report(header: Header, mapped: MappedFields, roots: tuple[str, ...]) -> FileReport:
    """What the mapping found, and what the reader knows where the mapping found nothing."""
    known = {
        "title": header.title,
        "start_time": header.start_time,
        "end_time": header.end_time,
        "experiment_identifier": header.experiment_identifier,
        "definition": header.definition,
        "instrument": header.instrument_short_name or header.instrument,
        "technique_pid": header.technique_pid,
        "technique_name": header.technique_name,
        "description": None,
    }
    fields = {name: short_text(mapped.fields.get(name) or text, MAX_TEXT) for name, text in known.items()}
    missing = [
        ReportedLink(
            target=short_text(link.target, MAX_TEXT) or "?",
            reason=short_text(link.reason, MAX_TEXT) or "?",
            file=_named_file(link.target, header.path, roots),
        )
        for link in header.missing_links[:MAX_MISSING]
    ]
    samples = mapped.samples or ([ReportedSample(name=header.sample[:MAX_TEXT])] if header.sample else [])
    return FileReport(
        is_nexus=True,
        samples=tuple(samples),
        people=tuple(mapped.people),
        parameters=_parameters(header, mapped),
        linked_files=tuple((path, _size(path)) for path in header.linked_files[:MAX_LINKED]),
        missing_links=tuple(missing),
        provenance=header.provenance,
        evidence=evidence_figures(header.evidence),
        **fields,
    )


def _parameters(header: Header, mapped: MappedFields) -> tuple[ReportedParameter, ...]:
    """What the reader computes, then what the mapping found under other names."""
    computed = (
        ("photon_energy", header.energy_keV, "keV"),
        ("incident_wavelength", header.wavelength_angstrom, "angstrom"),
        ("n_frames", header.n_frames or None, None),
        ("n_frames_expected", header.n_frames_expected, None),
        ("n_events", header.n_events or None, None),
        ("n_pulses", header.n_pulses or None, None),
        ("detectors", ", ".join(d.name for d in header.detectors)[:MAX_TEXT] or None, None),
    )
    mine = [ReportedParameter(name=n, value=v, unit=unit) for n, v, unit in computed if v is not None]
    names = {parameter.name for parameter in mine}
    return tuple([*mine, *(p for p in mapped.parameters if p.name not in names)][:MAX_PARAMETERS])


def _named_file(target: str, master: str, roots: tuple[str, ...]) -> str | None:
    """The absolute path of the file that a broken link names ('file:/path/inside'), if it could ever be read.

    The parent looks whether it came: so it lies in a root, and is a path that a file system can have.
    """
    name = target.partition(":/")[0]
    if not name or (name.startswith("/") and ":/" not in target):
        return None
    path = Path(os.path.normpath(Path(master).parent / name))
    fits = len(str(path)) <= MAX_PATH and all(len(os.fsencode(part)) <= MAX_NAME_BYTES for part in path.parts)
    inside = any(path.is_relative_to(Path(root).resolve()) for root in roots)
    return str(path) if fits and inside and str(path).isprintable() else None


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
