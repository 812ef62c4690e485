"""Command line: `python -m beamhub_reduction.synthetic VERB FOLDER ...`, one verb for each technique."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from beamhub_core.errors import BeamhubError
from beamhub_reduction.synthetic.facility import build_demo_facility
from beamhub_reduction.synthetic.fly_scan import FlyScanOptions, write_fly_scan
from beamhub_reduction.synthetic.powder import PowderOptions, write_powder_scan
from beamhub_reduction.synthetic.saxs import write_saxs_runs
from beamhub_reduction.synthetic.tof import TofOptions, write_tof_run
from beamhub_reduction.synthetic.tomography import TomographyOptions, write_tomography_scan
from beamhub_reduction.synthetic.truth import Truth, update_truth_file
from beamhub_reduction.synthetic.xfel import XfelOptions, write_xfel_run
from beamhub_reduction.synthetic.xrf import XrfOptions, write_xrf_map

LINE_EVERY_S = 10.0
BAR_WIDTH = 30
MODULE_SHAPE = (128, 64)
"""Pixels of a module of the XFEL run: fewer than AGIPD has, so that a laptop has it soon."""


class ProgressBar:
    """A bar on a terminal; elsewhere one line every ten seconds. Both go to standard error."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self.told_at = time.monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.on_terminal:
            filled = BAR_WIDTH * done // max(total, 1)
            end = "\n" if done >= total else ""
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            sys.stderr.write(f"\r[{bar}] {100 * done // max(total, 1):3d} % {what:24.24}{end}")
            sys.stderr.flush()
        elif time.monotonic() - self.told_at >= LINE_EVERY_S:
            self.told_at = time.monotonic()
            sys.stderr.write(f"writing synthetic data: {done} of {total} frames, {what}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beamhub_reduction.synthetic",
        description="Write honest synthetic measurements; the facts planted go to standard output as JSON.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    facility = verbs.add_parser("facility", help="the demonstration's facility")
    facility.add_argument("folder", type=Path, metavar="ROOT", help="folder of the two storage pools")
    for name, help_text in (("powder", "one powder scan"), ("tof", "one time-of-flight run")):
        one = verbs.add_parser(name, help=help_text)
        one.add_argument("folder", type=Path, metavar="FOLDER", help="root of a storage pool")
        one.add_argument("--proposal", required=True)
        one.add_argument("--sample", required=True, help="a known crystal, or any name for a random lattice")
        one.add_argument("--number", type=int, help="number of the scan or run")
    verbs.choices["powder"].add_argument("--frames", type=int, default=80)
    verbs.choices["tof"].add_argument("--events", type=int, default=1_500_000)
    for verb in verbs.choices.values():
        verb.add_argument("--truth", type=Path, metavar="FILE", help="JSON file to add the facts to")
    for name, (help_text, counted, n) in MEASUREMENTS.items():
        one = verbs.add_parser(name, help=help_text)
        one.add_argument("folder", type=Path, metavar="FOLDER", help="a folder for its files")
        one.add_argument("--count", type=int, default=n, help=f"{counted} (default {n})")
    for verb in verbs.choices.values():
        verb.add_argument("--seed", type=int, required=True, help="the same seed gives the same data")
    return parser


MEASUREMENTS = {
    "saxs": ("a sample in solution and its buffer", "frames of each", 12),
    "tomography": ("one tomography scan with flats and darks", "projections", 60),
    "xrf": ("one fluorescence map", "points of a line", 32),
    "xfel": ("one run of an X-ray laser, with its constants", "trains", 8),
    "fly-scan": ("one fly scan, a file for each line", "lines", 12),
}
"""Verb to what it writes, what `--count` counts, and how many there are."""


def _measured(verb: str, folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Write one measurement and give the planted facts that fit a line."""
    if count < 1:
        raise ValueError(f"a count is one or more, not {count}")
    folder.mkdir(parents=True, exist_ok=True)
    truth: Any
    if verb == "saxs":
        truth = write_saxs_runs(folder, seed=seed, n_frames=count, first_damaged=max(1, count * 3 // 4))
    elif verb == "tomography":
        truth = write_tomography_scan(folder, seed=seed, options=TomographyOptions(n_projections=count))
    elif verb == "xrf":
        truth = write_xrf_map(folder, seed=seed, options=XrfOptions(shape=(24, count)))
    elif verb == "xfel":
        truth = write_xfel_run(folder, seed=seed, options=XfelOptions(n_trains=count, shape=MODULE_SHAPE))
    else:
        truth = write_fly_scan(folder, seed=seed, shape=(count, 20), options=FlyScanOptions(snake=True))
    facts = {field.name: getattr(truth, field.name) for field in fields(truth)}
    plain = (str, int, float, bool, tuple, type(None))
    return {
        name: str(fact) if isinstance(fact, Path) else fact
        for name, fact in facts.items()
        if isinstance(fact, (*plain, Path))
    }


def _written(arguments: argparse.Namespace, bar: ProgressBar) -> tuple[Truth, ...]:
    if arguments.verb == "facility":
        return build_demo_facility(arguments.folder, seed=arguments.seed, progress=bar)
    where = {"proposal": arguments.proposal, "sample": arguments.sample, "seed": arguments.seed}
    done = [0]

    def tick(units: int) -> None:
        done[0] += units
        bar(done[0], arguments.frames if arguments.verb == "powder" else 3, arguments.sample)

    if arguments.verb == "powder":
        options = PowderOptions(number=arguments.number or 1, tick=tick)
        return (write_powder_scan(arguments.folder, n_frames=arguments.frames, options=options, **where),)
    run = TofOptions(run_number=arguments.number or 41001, tick=tick)
    return (write_tof_run(arguments.folder, n_events=arguments.events, options=run, **where),)


def main(argv: list[str] | None = None) -> int:
    """Write what the arguments ask for and return the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.seed < 0:
        sys.stderr.write(f"beamhub: a seed is zero or more, not {arguments.seed}\n")
        return 2
    try:
        if arguments.verb in MEASUREMENTS:
            facts = _measured(arguments.verb, arguments.folder, arguments.seed, arguments.count)
            sys.stdout.write(json.dumps([facts], indent=1) + "\n")
            return 0
        truths = _written(arguments, ProgressBar())
        if arguments.truth:
            update_truth_file(arguments.truth, truths)
    except BeamhubError as error:
        sys.stderr.write(f"beamhub: {error}\n")
        return error.exit_code
    except (OSError, ValueError) as error:
        sys.stderr.write(f"beamhub: cannot write synthetic data: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(json.dumps([truth.to_json() for truth in truths], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
