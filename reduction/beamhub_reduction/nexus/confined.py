"""Reading a file that nobody vouches for, in a child process with limits.

HDF5 can be made to loop for ever or to crash by a few wrong bytes (tried: one byte in the heap of an
attribute), and no check from outside finds them all. A service that reads other people's files calls these
functions; its own process never opens the file.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from beamhub_core.errors import BeamhubError
from beamhub_reduction.nexus import errors
from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.nexus.closure import MissingLink
from beamhub_reduction.nexus.errors import FileDamaged
from beamhub_reduction.nexus.header import DetectorHeader, Header, open_header
from beamhub_reduction.nexus.preview import CurvePreview, ImagePreview, preview_image

TIMEOUT_S = 30.0
MEMORY_BYTES = 4 * 1024**3
MAX_ANSWER_BYTES = 64 * 1024**2


def open_header_confined(
    path: str | os.PathLike[str], allowed_roots: Roots = None, *, timeout_s: float = TIMEOUT_S
) -> Header:
    """What `open_header` gives, read by a child process with limits on time and memory.

    Raises
    ------
    FileDamaged
        Also when the child crashes or takes too long.
    FileMissing, OutsideRoots, LimitExceeded, ...
        As `open_header`.
    """
    facts = json.loads(_ask("header", os.fspath(path), allowed_roots, timeout_s))
    facts["detectors"] = tuple(
        DetectorHeader(**{**d, "shape": tuple(d["shape"])}) for d in facts["detectors"]
    )
    facts["missing_links"] = tuple(MissingLink(**link) for link in facts["missing_links"])
    for name in ("entries", "users", "linked_files", "problems"):
        facts[name] = tuple(facts[name])
    return Header(**facts)


def preview_image_confined(
    path: str | os.PathLike[str], allowed_roots: Roots = None, *, timeout_s: float = TIMEOUT_S
) -> ImagePreview | CurvePreview:
    """What `preview_image` gives, read by a child process with limits on time and memory.

    Raises
    ------
    FileDamaged
        Also when the child crashes or takes too long.
    NoFrames, ...
        As `preview_image`.
    """
    with np.load(
        io.BytesIO(_ask("preview", os.fspath(path), allowed_roots, timeout_s)), allow_pickle=False
    ) as f:
        words = json.loads(str(f["words"]))
        if "values" in f:
            return ImagePreview(f["values"], **words)
        return CurvePreview(f["x"], f["y"], **words)


def _ask(what: str, path: str, roots: Roots, timeout_s: float) -> bytes:
    """The child's answer, or the error it met."""
    question = {"what": what, "path": path, "roots": None if roots is None else [os.fspath(r) for r in roots]}
    command = [sys.executable, "-P", "-m", "beamhub_reduction.nexus", str(int(timeout_s) + 1)]
    try:
        done = subprocess.run(
            command, input=json.dumps(question).encode(), capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FileDamaged(path, f"reading it took longer than {timeout_s:g} s") from error
    if done.returncode < 0:
        raise FileDamaged(path, f"reading it ended the reader with signal {-done.returncode}")
    if done.returncode == 3:
        raise _rebuild(json.loads(done.stdout))
    if done.returncode != 0 or len(done.stdout) > MAX_ANSWER_BYTES:
        raise FileDamaged(path, "the reader failed on it")
    return done.stdout


def _rebuild(answer: dict[str, Any]) -> BeamhubError:
    """The error of a child, by its name in the reader's errors."""
    kind = getattr(errors, str(answer["error"]), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.NexusError)):
        raise ValueError(f"the reader answered with an unknown error {answer['error']!r}")
    arguments = [tuple(a) if isinstance(a, list) else a for a in answer["arguments"]]
    rebuilt: BeamhubError = kind(*arguments)
    return rebuilt


def _encode(what: str, path: str, roots: Sequence[str] | None) -> bytes:
    if what == "header":
        return json.dumps(asdict(open_header(path, roots))).encode()
    preview = preview_image(path, roots)
    buffer = io.BytesIO()
    if isinstance(preview, ImagePreview):
        words = json.dumps({"title": preview.title, "n_frames": preview.n_frames})
        np.savez(buffer, values=preview.values, words=np.array(words))
    else:
        words = json.dumps({"x_label": preview.x_label, "y_label": preview.y_label, "title": preview.title})
        np.savez(buffer, x=preview.x, y=preview.y, words=np.array(words))
    return buffer.getvalue()


def main() -> int:
    """The child: a question on standard input, the answer on standard output; code 3 for a reader's error."""
    cpu_s = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    question = json.loads(sys.stdin.buffer.read())
    code = 0
    try:
        answer = _encode(question["what"], question["path"], question["roots"])
    except errors.NexusError as error:
        answer, code = json.dumps({"error": type(error).__name__, "arguments": error.args}).encode(), 3
    except MemoryError:
        facts = {"error": "FileDamaged", "arguments": [question["path"], "it asks for too much memory"]}
        answer, code = json.dumps(facts).encode(), 3
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return code
