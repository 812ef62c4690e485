"""`beamhub job`: hand reductions to the session's server, see how far they are, stop them."""

from __future__ import annotations

import argparse
import json
import sys

from beamhub_reduction.batch import read_jobs
from beamhub_reduction.long_jobs import SubmittedJob, find_job, own_jobs, submit


def run_submit(arguments: argparse.Namespace) -> int:
    """Hand the jobs of a file over."""
    job = submit(read_jobs(arguments.config), workers=arguments.workers, title=arguments.title)
    _show([job], as_json=arguments.json)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Every job, the oldest first."""
    _show(own_jobs(), as_json=arguments.json)
    return 0


def run_stop(arguments: argparse.Namespace) -> int:
    """Ask a job to end."""
    job = find_job(arguments.id)
    job.stop()
    _show([job], as_json=arguments.json)
    return 0


def _show(jobs: tuple[SubmittedJob, ...] | list[SubmittedJob], *, as_json: bool) -> None:
    reports = [job.report() for job in jobs]
    if as_json:
        sys.stdout.write(json.dumps({"jobs": [report.model_dump() for report in reports]}) + "\n")
        return
    for one in reports:
        sys.stdout.write(f"{one.id}  {one.phase:<8}  {one.title}  {one.text}".rstrip() + "\n")
    if not reports:
        sys.stdout.write("There are no jobs.\n")
