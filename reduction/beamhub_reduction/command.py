"""The verb `beamhub reduce`."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if find_spec("pyFAI") is None:
    # The reduction extra is not installed: the command line then leaves this verb out.
    raise ModuleNotFoundError("pyFAI", name="pyFAI")

if TYPE_CHECKING:
    from beamhub_reduction.result import Result


def add(subparsers: Any) -> None:
    """Add `beamhub reduce azimuthal|tof FILE -o OUT`."""
    reduce = subparsers.add_parser("reduce", help="reduce a NeXus file and write a product")
    steps = reduce.add_subparsers(metavar="STEP", required=True)
    azimuthal = steps.add_parser("azimuthal", help="intensity over q of all frames")
    _add_common(azimuthal, "FILE or FILE::/path/of/the/frames, or the pid of a dataset of this session")
    azimuthal.add_argument("--unit", default="q_nm^-1", help="q_nm^-1, q_A^-1, 2th_deg or 2th_rad")
    azimuthal.add_argument("--mask", type=Path, help="a .npy file, shape of a frame, non-zero = masked")
    azimuthal.add_argument("--missing", choices=("fail", "skip"), default="fail", help="missing linked files")
    azimuthal.set_defaults(run=run_azimuthal)
    tof = steps.add_parser("tof", help="counts over d-spacing of neutron events")
    _add_common(tof, "FILE, or the pid of a dataset of this session")
    tof.add_argument(
        "--d-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="angstrom; default: all events"
    )
    tof.set_defaults(run=run_tof)


def _add_common(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("file", metavar="FILE", help=what)
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="a new file, or a folder"
    )
    parser.add_argument("--bins", type=int, default=1000, help="number of bins (default 1000)")
    parser.add_argument("--no-normalise", action="store_true", help="do not divide by monitor or charge")
    parser.add_argument(
        "--corrupt", choices=("fail", "skip"), default="fail", help="chunks that do not decode"
    )
    parser.add_argument("--workers", type=int, help="Dask workers (default: as many as processors)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run_azimuthal(arguments: argparse.Namespace) -> int:
    """Integrate, write, report."""
    # Dask and pyFAI take seconds to import: only when there is something to reduce.
    from beamhub_reduction.cluster import connect
    from beamhub_reduction.mask_file import read_mask_file
    from beamhub_reduction.run import open_run

    mask = read_mask_file(arguments.mask) if arguments.mask else None
    run = open_run(arguments.file)
    with connect(arguments.workers) as client:
        result = run.azimuthal(
            bins=arguments.bins,
            unit=arguments.unit,
            mask=mask,
            normalise=not arguments.no_normalise,
            missing=arguments.missing,
            corrupt=arguments.corrupt,
            client=client,
        )
    return _report(result, arguments)


def run_tof(arguments: argparse.Namespace) -> int:
    """Focus, write, report."""
    # See run_azimuthal.
    from beamhub_reduction.cluster import connect
    from beamhub_reduction.run import open_run

    run = open_run(arguments.file)
    with connect(arguments.workers) as client:
        result = run.time_of_flight(
            bins=arguments.bins,
            d_range=tuple(arguments.d_range) if arguments.d_range else None,
            normalise=not arguments.no_normalise,
            corrupt=arguments.corrupt,
            client=client,
        )
    return _report(result, arguments)


def _report(result: Result, arguments: argparse.Namespace) -> int:
    product = result.write(arguments.output)
    statistics = result.statistics.as_dict()
    if arguments.json:
        facts = {
            "ok": True,
            "product": product.model_dump(mode="json"),
            "statistics": statistics,
            "warnings": list(result.warnings),
        }
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for warning in result.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        counts = "\n".join(f"  {name:<22} {n}" for name, n in statistics.items() if n)
        sys.stdout.write(f"{product.path}\n{counts}\n")
    return 0
