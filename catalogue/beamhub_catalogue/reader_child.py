"""The process that parses files of unknown honesty: `python -I -m beamhub_catalogue.reader_child`.

Standard input holds one line of settings, then one request a line; standard output one answer a line. Before
it looks at any file the process gives up memory, processor time and, by Landlock, every folder but the
pools (to read), Python's own (to read) and its scratch folder (to write). It has no database and no secret.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import IO

from beamhub_catalogue.file_report import (
    MAX_TEXT,
    ChildSettings,
    FileAnswer,
    FileReport,
    FileRequest,
    short_text,
)
from beamhub_core.errors import BeamhubError
from beamhub_core.landlock import restrict

MAX_PREVIEW_BYTES = 8_000_000
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
        report = _read(request, settings)
    except BeamhubError as error:
        return FileAnswer(outcome="damaged", reason=short_text(str(error), MAX_TEXT))
    except MemoryError:
        mib = settings.memory_bytes // 2**20
        return FileAnswer(outcome="damaged", reason=f"Reading it takes more than {mib} MiB of memory.")
    except Exception as error:  # noqa: BLE001  # outermost layer of the child: the batch goes on
        sys.stderr.write(f"reader: {request.path}: {type(error).__name__}: {error}\n")
        return FileAnswer(outcome="damaged", reason=f"The reader stumbled ({type(error).__name__}).")
    return FileAnswer(outcome="read", report=report)


def _read(request: FileRequest, settings: ChildSettings) -> FileReport:
    # Imported here, after confine(): these libraries start threads and parse what we do not trust.
    from beamhub_catalogue.file_reading import read_file

    report = read_file(request, settings.mapping, settings.roots)
    wants_picture = report.experiment_identifier or report.has_identity or report.provenance
    if request.preview is None or not report.is_nexus or not wants_picture:
        return report
    return report.model_copy(
        update={"has_preview": _render(request.path, Path(request.preview), settings.roots)}
    )


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


def _write(answers: IO[str], answer: FileAnswer) -> None:
    answers.write(answer.model_dump_json() + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
