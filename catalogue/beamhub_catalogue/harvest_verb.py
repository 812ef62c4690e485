"""What `beamhub catalogue harvest` does: files, or another catalogue; for real or in a dry run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from beamhub_catalogue.audit import record_command
from beamhub_catalogue.dry_run import dry_run
from beamhub_catalogue.harvest import HarvestReport
from beamhub_catalogue.mirror import dry_mirror, mirror
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.shown import opened_service, show
from beamhub_core.config.catalogue_sources import CatalogueSourceConfig

FILES = "files"
MAX_LISTED = 1_000_000
MAX_LINE = 4_096


def run_harvest(arguments: argparse.Namespace) -> int:
    """Scan once, in this process."""
    with opened_service(arguments) as service:
        sources = {source.name: source for source in service.config.catalogue.sources}
        wrong = _wrong_words(arguments, service, sources)
        if wrong is not None:
            sys.stderr.write(f"beamhub: {wrong}\n")
            return 2
        if not arguments.dry_run:
            record_command(service.database, "catalogue harvest", service.clock())
        if arguments.source != FILES:
            return _harvest_source(arguments, service, sources[arguments.source])
        if arguments.dry_run:
            return _show_dry_run(arguments, service)
        if arguments.paths is not None:
            report = service.harvester.take(_listed())
        else:
            report = service.harvester.scan(arguments.pool, arguments.path)
    _show_files(arguments, report)
    return 0


def _wrong_words(
    arguments: argparse.Namespace, service: CatalogueService, sources: dict[str, CatalogueSourceConfig]
) -> str | None:
    if arguments.source != FILES and arguments.source not in sources:
        return f"there is no source {arguments.source!r}; there are: {', '.join([FILES, *sources])}"
    if arguments.pool is not None and arguments.pool not in {p.name for p in service.config.pools}:
        return f"there is no pool {arguments.pool!r}"
    return None


def _listed() -> Iterator[Path]:
    """The paths on standard input, one a line."""
    for line in islice(sys.stdin, MAX_LISTED):
        text = line.rstrip("\n")
        if text and len(text) <= MAX_LINE:
            yield Path(text)


def _show_files(arguments: argparse.Namespace, report: HarvestReport) -> None:
    problems = [{"source": p.source, "file": p.file, "reason": p.reason} for p in report.all_problems]
    facts = {
        "harvested": len(report.harvested),
        "unchanged": report.n_unchanged,
        "waiting": len(report.waiting),
        "datasets": report.n_datasets,
        "problems": problems,
    }
    head = (
        f"{len(report.harvested)} harvested, {report.n_unchanged} unchanged, "
        f"{report.n_datasets} dataset(s), {len(problems)} problem(s)"
    )
    waiting = [f"{file}: is still being written; the next scan looks again" for file in report.waiting]
    show(arguments, facts, [head, *waiting, *_lines(problems, "file")])


def _show_dry_run(arguments: argparse.Namespace, service: CatalogueService) -> int:
    harvester = service.harvester
    run = dry_run(service, harvester.found(harvester.roots(arguments.pool, arguments.path)))
    found = [{"field": name, "path": path, "files": n} for (name, path), n in sorted(run.found.items())]
    unmapped = [{"path": path, "kind": kind, "files": n} for (path, kind), n in run.unmapped.most_common()]
    problems = [{"file": file, "reason": reason} for file, reason in run.problems]
    lines = [
        f"{run.n_files} file(s) read, nothing stored",
        *(f"found     {f['field']}\t{f['path']}\t{f['files']} file(s)" for f in found),
        *(f"unmapped  {u['path']}\t{u['kind']}\t{u['files']} file(s)" for u in unmapped),
        *_lines(problems, "file"),
    ]
    show(arguments, {"files": run.n_files, "found": found, "unmapped": unmapped, "problems": problems}, lines)
    return 0


def _harvest_source(
    arguments: argparse.Namespace, service: CatalogueService, config: CatalogueSourceConfig
) -> int:
    if arguments.dry_run:
        page = dry_mirror(service, config)
        told = [record.model_dump(mode="json") for record in page.records] if page else []
        problems = [{"record": name, "reason": reason} for name, reason in page.problems] if page else []
        lines = [f"{r['source_id']}\t{r['proposal']}\t{r['title']}" for r in told]
        show(arguments, {"records": told, "problems": problems}, [*lines, *_lines(problems, "record")])
        return 0
    report = mirror(service, config, full=arguments.full)
    problems = [{"record": name, "reason": reason} for name, reason in report.problems]
    facts = {
        "stored": len(report.stored),
        "unchanged": report.n_unchanged,
        "removed": report.removed,
        "written_back": report.written,
        "problems": problems,
    }
    head = (
        f"{len(report.stored)} stored, {report.n_unchanged} unchanged, {len(report.removed)} removed, "
        f"{len(report.written)} written back, {len(problems)} problem(s)"
    )
    show(arguments, facts, [head, *_lines(problems, "record")])
    return 0


def _lines(problems: Sequence[dict[str, Any]], named: str) -> list[str]:
    return [f"{problem[named]}: {problem['reason']}" for problem in problems]
