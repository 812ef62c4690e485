"""`beamhub reduce STEP`: the options of every step, made from its parameters."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from beamhub_reduction.batch import ALIASES, read_jobs
from beamhub_reduction.cluster import connect, session_threads
from beamhub_reduction.errors import RunNotFound
from beamhub_reduction.follow import FollowedFrames, Follower, PolledRun
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.progress import Display, JsonLines, ProgressCallback, silent
from beamhub_reduction.pipeline.step import STEPS, StepKind, step_kind
from beamhub_reduction.product import check_output
from beamhub_reduction.reduce_job import follow_run, job_facts, reduce_file, run_jobs
from beamhub_reduction.reduce_options import StepParser, add_parameters, chosen_parameters
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run

EXIT_CODES = (
    "Exit codes: 0 fine, 1 failed, 2 usage or a bad parameter, 3 not found, 5 disk or memory full, 6 later, "
    "7 the batch file is invalid, 130 interrupted."
)

FRAME_STEPS = ("azimuthal", "fly_scan_map", "frame_statistics", "saxs", "tomography")
"""Steps over one stack of detector frames, which is followed frame by frame."""


def run_words(words: Sequence[str]) -> int:
    """Do what the words after `beamhub reduce` say."""
    # Options may stand before the step: the first word that is one decides.
    if not words or not words[0].startswith("-"):
        chosen = _overview().parse_args(words[:1])
        kind = step_kind(ALIASES.get(chosen.step, chosen.step))
        return run_step(kind, build_step_parser(kind).parse_args(words[1:]))
    if words[0] in ("-h", "--help"):
        _overview().parse_args(words[:1])
    return run_batch(build_batch_parser().parse_args(words))


def _overview() -> argparse.ArgumentParser:
    """The parser of the step's name, whose help lists the steps."""
    names = {name.replace("_", "-"): text for name, (_, text) in STEPS.items()}
    width = max(len(name) for name in names) + 2
    listed = "\n".join(f"  {name:<{width}}{text}" for name, text in sorted(names.items()))
    parser = StepParser(
        prog="beamhub reduce",
        usage="beamhub reduce STEP FILE -o OUT [options]\n       beamhub reduce --config JOBS.json [options]",
        description="Reduce a NeXus file and write a product.",
        epilog=f"steps:\n{listed}\n\n'beamhub reduce STEP --help' shows a step's options.\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = sorted({*names, *STEPS, *ALIASES})
    parser.add_argument("step", choices=choices, metavar="STEP", help="one of the steps below")
    return parser


def build_step_parser(kind: StepKind) -> argparse.ArgumentParser:
    """The parser of one step: its parameters, and what all steps have."""
    parser = StepParser(
        prog=f"beamhub reduce {kind.name.replace('_', '-')}", description=kind.title, epilog=EXIT_CODES
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="FILE or FILE::/path/of/the/data, or the pid of a dataset of this session",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="a new file, or a folder"
    )
    add_parameters(parser, kind)
    group = _add_running(parser)
    group.add_argument(
        "--follow",
        type=float,
        nargs="?",
        const=60.0,
        default=None,
        metavar="S",
        help="reduce a file that is still being written, again and again, until it says that it has "
        "ended or has not grown for S seconds (60); beside OUT a .live file shows the "
        "state, OUT appears at the end",
    )
    return parser


def build_batch_parser() -> argparse.ArgumentParser:
    """The parser of `beamhub reduce --config`."""
    parser = StepParser(prog="beamhub reduce", description="Do all jobs of a JSON file.", epilog=EXIT_CODES)
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        metavar="JOBS.json",
        help='{"step", "file", "output", "parameters"}, or a list of such objects',
    )
    _add_running(parser)
    return parser


def _add_running(parser: argparse.ArgumentParser) -> Any:
    """What does not change the numbers."""
    group = parser.add_argument_group("how it is run")
    group.add_argument("--workers", type=int, metavar="N", help="how many (default: as many as processors)")
    group.add_argument(
        "--processes", action="store_true", help="workers are processes of their own, not threads"
    )
    group.add_argument(
        "--journal", type=Path, metavar="FOLDER", help="keep finished parts here: the same call goes on there"
    )
    group.add_argument(
        "--memory-gib", type=float, metavar="X", help="what the work may use (default: most of what there is)"
    )
    group.add_argument(
        "--limit", action="store_true", help="measure what reading and decoding alone could reach"
    )
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="on standard error; with --json as JSON lines (default: on a terminal only)",
    )
    group.add_argument("--json", action="store_true", help="one JSON object a job on standard output")
    return group


def run_step(kind: StepKind, arguments: argparse.Namespace) -> int:
    """Reduce, write, report."""
    parameters = chosen_parameters(kind, arguments)
    check_output(arguments.output)
    show = _progress_for(arguments)

    def work(engine: Engine) -> int:
        if arguments.follow is not None:
            watch = (_follower(kind, arguments.file, arguments.follow), arguments.output, _say)
            result = follow_run(kind, arguments.file, parameters, engine, watch)
        else:
            result = reduce_file(kind, arguments.file, parameters, engine, show(kind))
        return _report(result, arguments)

    return _with_engine(arguments, work)


def _follower(kind: StepKind, name: str, quiet_s: float) -> Follower:
    """Frames are followed one by one; of other data only the sizes of the files are watched."""
    try:
        run = open_run(name)
        file, dataset = run.file, run.dataset
    except RunNotFound:  # it may come
        file, _, inside = name.partition("::")
        dataset = inside or None
    is_stack = kind.name in FRAME_STEPS and not Path(file).is_dir()
    return FollowedFrames(file, dataset, quiet_s) if is_stack else PolledRun(file, quiet_s)


def run_batch(arguments: argparse.Namespace) -> int:
    """Do all jobs of a file; one line for each."""
    jobs = read_jobs(arguments.config)
    show = _progress_for(arguments)
    return _with_engine(arguments, lambda engine: run_jobs(jobs, engine, show, as_json=arguments.json))


def _with_engine(arguments: argparse.Namespace, work: Callable[[Engine], int]) -> int:
    """Threads of this process, or worker processes that end with the work."""
    memory = arguments.memory_gib
    engine = Engine(
        threads=session_threads(arguments.workers),
        journal=arguments.journal,
        memory_bytes=int(memory * 1024**3) if memory is not None else None,
        measure_limit=arguments.limit,
    )
    if not arguments.processes:
        return work(engine)
    with connect(arguments.workers, processes=True, memory_gib=memory) as client:
        return work(Engine(client=client, journal=arguments.journal, measure_limit=arguments.limit))


def _progress_for(arguments: argparse.Namespace) -> Callable[[StepKind], ProgressCallback | None]:
    """What shows the progress of a step; None leaves it to the usual display."""

    def show(kind: StepKind) -> ProgressCallback | None:
        if arguments.progress is False or (arguments.json and not arguments.progress):
            return silent
        if arguments.json:
            return JsonLines(sys.stderr)
        return Display(kind.title, counted=kind.counted, always=True) if arguments.progress else None

    return show


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _report(result: Result, arguments: argparse.Namespace) -> int:
    facts = job_facts(result, arguments.output)
    if arguments.json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for warning in result.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        counts = "\n".join(f"  {name:<22} {n}" for name, n in result.statistics.as_dict().items() if n)
        sys.stdout.write(f"{facts['product']['path']}\n{counts}\n")
    return 0
