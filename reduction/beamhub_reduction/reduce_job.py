"""One job of the command line: reduced, written, told; many of them; one that follows a growing file."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from beamhub_core.clock import utc_now
from beamhub_core.errors import BeamhubError
from beamhub_reduction.batch import Job
from beamhub_reduction.errors import CorruptChunk, FilesChanged, NothingLeft
from beamhub_reduction.follow import Follower
from beamhub_reduction.nexus.errors import FileDamaged, FileMissing, LinkMissing, NoFrames
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.progress import ProgressCallback, silent
from beamhub_reduction.pipeline.step import StepKind
from beamhub_reduction.product import ProductContent, check_output, replace_product
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run

log = logging.getLogger(__name__)

Show = Callable[[StepKind], ProgressCallback | None]
NOT_YET = (CorruptChunk, FileDamaged, FileMissing, FilesChanged, LinkMissing, NoFrames, NothingLeft)
"""What a file may be while it is being written: not now, but perhaps a moment later."""


def reduce_file(
    kind: StepKind,
    file: str,
    parameters: Mapping[str, Any],
    engine: Engine,
    progress: ProgressCallback | None,
) -> Result:
    """One reduction, not written yet."""
    return open_run(file).reduce(kind.name, engine=engine, progress=progress, **parameters)


def job_facts(result: Result, output: Path) -> dict[str, Any]:
    """Write the product; what the command line says of it, as JSON values."""
    product = result.write(output)
    return {
        "ok": True,
        "product": product.model_dump(mode="json"),
        "statistics": result.statistics.as_dict(),
        "evidence": result.evidence,
        "warnings": list(result.warnings),
    }


def run_jobs(jobs: Sequence[Job], engine: Engine, show: Show, *, as_json: bool) -> int:
    """Do all jobs, whatever becomes of single ones; the largest exit code.

    Each job's outcome is one line on standard output: JSON, or a few words.
    """
    worst = 0
    for i, job in enumerate(jobs):
        about = {"job": i, "step": job.kind.name, "file": job.file}
        try:
            check_output(Path(job.output))
            result = reduce_file(job.kind, job.file, job.parameters, engine, show(job.kind))
            facts = {**about, **job_facts(result, Path(job.output))}
        except BeamhubError as error:
            facts = {**about, **_failure(type(error).__name__, str(error), error.exit_code)}
        except Exception as error:
            # One job that fails in a way nobody thought of must not take the others with it.
            log.exception("job failed", extra={"job": i, "step": job.step})
            facts = {**about, **_failure(type(error).__name__, "It failed; the log says how.", 1)}
        worst = max(worst, int(facts.get("exit_code", 0)))
        _tell(facts, as_json=as_json)
    return worst


def _failure(name: str, message: str, exit_code: int) -> dict[str, Any]:
    return {"ok": False, "error": name, "message": message, "exit_code": exit_code}


def _tell(facts: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        text = json.dumps(facts)
    elif facts["ok"]:
        n_warnings = len(facts["warnings"])
        text = facts["product"]["path"] + (f" ({n_warnings} warnings)" if n_warnings else "")
    else:
        text = f"{facts['file']}: {facts['message']}"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def follow_run(
    kind: StepKind,
    file: str,
    parameters: Mapping[str, Any],
    engine: Engine,
    watch: tuple[Follower, Path, Callable[[str], None]],
) -> Result:
    """Reduce what is there whenever there is more; the result of the whole when the file has ended.

    Each state is the reduction of everything written so far, in a file beside the output, replaced at once
    and whole;
    it is gone when the last one is given back. No catalogue takes it for a product.

    Raises
    ------
    NothingLeft, NoFrames, ...
        If even at the end there is nothing to reduce.
    """
    follower, output, say = watch
    live = live_path(output, kind, file)
    result: Result | None = None
    last: BeamhubError | None = None
    try:
        while follower.wait():
            try:
                result = reduce_file(kind, file, parameters, engine, silent)
            except NOT_YET as error:
                result, last = None, error
                continue
            counts = result.statistics
            say(f"{counts.n_frames_read or counts.n_events} {kind.counted} so far, {live}")
            replace_product(ProductContent.of(result, utc_now(), final=False), live)
        if result is None:
            result = reduce_file(kind, file, parameters, engine, silent)
        if last is not None:
            log.info("a state of the file was not reduced", extra={"reason": str(last)})
        return result
    finally:
        live.unlink(missing_ok=True)


def live_path(output: Path, kind: StepKind, file: str) -> Path:
    """Where the state of a followed run stands: scan.live.nxs for scan.nxs."""
    if output.is_dir():
        return output / f"{Path(file.partition('::')[0]).stem}_{kind.name}.live.h5"
    return output.with_name(f"{output.stem}.live{output.suffix or '.h5'}")
