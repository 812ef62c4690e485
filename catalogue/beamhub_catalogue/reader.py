"""The parent's side of the confined reader: one child for many files, and a crash costs one file only."""

from __future__ import annotations

import logging
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from beamhub_catalogue.file_report import ChildSettings, FileAnswer, FileRequest
from beamhub_catalogue.nexus_mapping import read_mapping
from beamhub_core.config.catalogue import CatalogueConfig

log = logging.getLogger(__name__)

FILES_PER_CHILD = 200
START_TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 8_000_000
CHILD = (sys.executable, "-I", "-m", "beamhub_catalogue.reader_child")


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    n_files: int = 0


class FileReader:
    """Reads headers of files below some roots in a child that may do nothing else.

    Used by one thread; another may `cancel` it, which ends a reading that is under way.
    """

    def __init__(self, config: CatalogueConfig, roots: tuple[Path, ...], scratch: Path, cache: Path) -> None:
        self._config, self._roots, self.scratch, self._cache = config, roots, scratch, cache
        self._mapping = read_mapping(config.nexus_mapping_file)
        self._child: _Child | None = None
        self._cancelled = False

    def read(self, request: FileRequest) -> FileAnswer:
        """The answer on one file; a child that dies, hangs or babbles makes the file `damaged`."""
        if self._cancelled:
            return FileAnswer(outcome="damaged", reason="The reader was stopped.")
        fresh = self._child is None
        child = self._started()
        limit_s = self._config.reader_timeout_s + (START_TIMEOUT_S if fresh else 0)
        line = self._exchange(child, request, limit_s)
        if isinstance(line, str):
            self._end_child()
            log.warning("reader child failed", extra={"file": request.path, "reason": line})
            return FileAnswer(outcome="damaged", reason=line)
        child.n_files += 1
        if child.n_files >= FILES_PER_CHILD:
            self._end_child()
        try:
            return FileAnswer.model_validate_json(line)
        except ValidationError:
            self._end_child()
            return FileAnswer(outcome="damaged", reason="The reader gave no valid answer.")

    def cancel(self) -> None:
        """End what is under way and read nothing more; the owner still closes."""
        self._cancelled = True
        child = self._child
        if child is not None:
            child.process.kill()

    def close(self) -> None:
        """End the child."""
        self._cancelled = True
        self._end_child()

    def _started(self) -> _Child:
        if self._child is None:
            process = subprocess.Popen(
                CHILD,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment(),
                cwd=self.scratch,
                start_new_session=True,
            )
            self._child = _Child(process)
            settings = ChildSettings(
                roots=tuple(str(root) for root in self._roots),
                scratch=str(self.scratch),
                cache=str(self._cache),
                mapping=self._mapping,
                memory_bytes=self._config.reader_memory_mib * 2**20,
                cpu_seconds=int(self._config.reader_timeout_s * FILES_PER_CHILD) + 60,
            )
            _send(process, settings.model_dump_json())
        return self._child

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: no secret, no proxy, no path; one thread in every library."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return threads | {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.scratch),
            "TMPDIR": str(self.scratch),
            "MPLCONFIGDIR": str(self._cache),
            "MPLBACKEND": "Agg",
            "MALLOC_ARENA_MAX": "1",
        }

    def _exchange(self, child: _Child, request: FileRequest, limit_s: float) -> bytes | str:
        """One line for one line; a text says what went wrong instead."""
        if not _send(child.process, request.model_dump_json()):
            return "The reader's process ended before it read the file."
        stdout = child.process.stdout
        assert stdout is not None  # noqa: S101  # a pipe was asked for
        deadline = time.monotonic() + limit_s
        buffer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not buffer.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    return f"Reading it took longer than {self._config.reader_timeout_s:g} s."
                part = os.read(stdout.fileno(), 65536)
                if not part:
                    return self._why_it_ended(child)
                buffer += part
                if len(buffer) > MAX_ANSWER_BYTES:
                    return "The reader's answer is too long."
        return bytes(buffer)

    def _why_it_ended(self, child: _Child) -> str:
        code = child.process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"The file ended the reader's process ({how}): it is damaged or hostile."

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written has nobody to read it
                    pipe.close()


def _send(process: subprocess.Popen[bytes], line: str) -> bool:
    assert process.stdin is not None  # noqa: S101  # a pipe was asked for
    try:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
    except OSError:
        return False
    return True


@contextmanager
def open_reader(config: CatalogueConfig, roots: tuple[Path, ...], state_folder: Path) -> Iterator[FileReader]:
    """A reader with a scratch folder of its own, both gone afterwards."""
    cache = state_folder / "reader-cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reader-", dir=state_folder) as scratch:
        reader = FileReader(config, roots, Path(scratch), cache)
        try:
            yield reader
        finally:
            reader.close()
