"""The process that parses files of unknown honesty: `python -I -m beamhub_catalogue.reader_child`.

Standard input holds one line of settings, then one request a line; standard output one answer a line. Before
it looks at any file the process gives up memory, processor time and, by Landlock, every folder but the
pools (to read), Python's own (to read) and its scratch folder (to write). It has no database and no secret.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from pathlib import Path
from typing import IO

from beamhub_catalogue.evidence_figures import evidence_figures
from beamhub_catalogue.file_report import (
    MAX_LINKED,
    MAX_MISSING,
    MAX_PATH,
    MAX_TEXT,
    ChildSettings,
    FileAnswer,
    FileReport,
    FileRequest,
    ReportedLink,
    ReportedParameter,
)
from beamhub_core.errors import BeamhubError
from beamhub_core.landlock import restrict

MAX_PREVIEW_BYTES = 8_000_000
MAX_NAME_BYTES = 255
BAD_PICTURE = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, ValueError)
SYSTEM_FOLDERS = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc",
    "/opt",
    "/proc/self",
    "/proc/cpuinfo",
    "/sys/devices",
)
DEVICES = ("/dev/null", "/dev/urandom", "/dev/zero")


def main() -> int:
    """Answer every request until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    settings = ChildSettings.model_validate_json(sys.stdin.readline())
    confine(settings)
    for line in sys.stdin:
        request = FileRequest.model_validate_json(line)
        answer = _answer(request, settings)
        _write(answers, answer)
    return 0


def confine(settings: ChildSettings) -> None:
    """Give up what reading a file does not need; nothing can be taken back."""
    python = {sys.prefix, sys.base_prefix, *sys.path}
    readable = [*settings.roots, *sorted(python), *SYSTEM_FOLDERS]
    restrict(
        read=[Path(p).resolve() for p in readable if p and Path(p).exists()],
        write=[Path(settings.scratch).resolve(), Path(settings.cache).resolve(), *(Path(d) for d in DEVICES)],
        missing_ok=True,
    )
    resource.setrlimit(resource.RLIMIT_AS, (settings.memory_bytes, settings.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (settings.cpu_seconds, settings.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_PREVIEW_BYTES, MAX_PREVIEW_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 512 if most_files == resource.RLIM_INFINITY else min(512, most_files)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _answer(request: FileRequest, settings: ChildSettings) -> FileAnswer:
    try:
        report = _read(request, settings.roots)
    except BeamhubError as error:
        return FileAnswer(outcome="damaged", reason=_short(str(error), MAX_TEXT))
    except MemoryError:
        mib = settings.memory_bytes // 2**20
        return FileAnswer(outcome="damaged", reason=f"Reading it takes more than {mib} MiB of memory.")
    except Exception as error:  # noqa: BLE001  # outermost layer of the child: the batch goes on
        sys.stderr.write(f"reader: {request.path}: {type(error).__name__}: {error}\n")
        return FileAnswer(outcome="damaged", reason=f"The reader stumbled ({type(error).__name__}).")
    return FileAnswer(outcome="read", report=report)


def _read(request: FileRequest, roots: tuple[str, ...]) -> FileReport:
    # Imported here, after confine(): these libraries start threads and parse what we do not trust.
    from beamhub_reduction.nexus import open_header

    header = open_header(request.path, roots)
    if not header.entries:
        return FileReport(is_nexus=False)
    missing = [
        ReportedLink(
            target=_short(link.target, MAX_TEXT),
            reason=_short(link.reason, MAX_TEXT),
            file=_named_file(link.target, header.path, roots),
        )
        for link in header.missing_links[:MAX_MISSING]
    ]
    report = FileReport(
        is_nexus=True,
        title=_short(header.title, MAX_TEXT),
        start_time=_short(header.start_time, MAX_TEXT),
        end_time=_short(header.end_time, MAX_TEXT),
        experiment_identifier=_short(header.experiment_identifier, MAX_TEXT),
        definition=_short(header.definition, MAX_TEXT),
        instrument=_short(header.instrument_short_name or header.instrument, MAX_TEXT),
        sample=_short(header.sample, MAX_TEXT),
        technique_pid=_short(header.technique_pid, MAX_TEXT),
        technique_name=_short(header.technique_name, MAX_TEXT),
        parameters=tuple(
            ReportedParameter(name=name, value=value, unit=unit)
            for name, value, unit in (
                ("photon_energy", header.energy_keV, "keV"),
                ("incident_wavelength", header.wavelength_angstrom, "angstrom"),
                ("n_frames", header.n_frames or None, None),
                ("n_frames_expected", header.n_frames_expected, None),
                ("n_events", header.n_events or None, None),
                ("n_pulses", header.n_pulses or None, None),
                ("detectors", ", ".join(d.name for d in header.detectors)[:MAX_TEXT] or None, None),
            )
            if value is not None
        ),
        linked_files=tuple((path, _size(path)) for path in header.linked_files[:MAX_LINKED]),
        missing_links=tuple(missing),
        provenance=header.provenance,
        evidence=evidence_figures(header.evidence),
        sha256=_sha256(header.path) if request.hash else None,
        has_preview=False,
    )
    wants_picture = report.experiment_identifier or report.has_identity or report.provenance
    if request.preview is None or not wants_picture:
        return report
    return report.model_copy(update={"has_preview": _render(request.path, Path(request.preview), roots)})


def _render(path: str, preview: Path, roots: tuple[str, ...]) -> bool:
    """Write the preview; a file without one, or with a damaged one, is still a dataset."""
    from beamhub_catalogue.preview import write_preview_png  # after confine(), as above
    from beamhub_reduction.nexus import preview_image

    try:
        write_preview_png(preview_image(path, roots), preview)
    except (BeamhubError, *BAD_PICTURE) as error:
        sys.stderr.write(f"reader: no preview of {path}: {error}\n")
        return False
    return True


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


def _short(text: str | None, limit: int) -> str | None:
    """A text without control characters, cut to a limit; JSON and pages take it as it is."""
    if text is None:
        return None
    clean = "".join(c if c.isprintable() else " " for c in text[: limit * 2])
    return clean.strip()[:limit] or None


def _write(answers: IO[str], answer: FileAnswer) -> None:
    answers.write(answer.model_dump_json() + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
