"""What a harvest would keep of the files, and what no rule of the mapping names; nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from beamhub_catalogue.file_report import FileRequest
from beamhub_catalogue.reader import open_reader
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.walk import FoundFile, WalkProblem

MAX_FILES = 200


@dataclass(slots=True)
class DryRun:
    """Over all files: where values were found, what was not mapped (with its kind), what cannot be read."""

    n_files: int = 0
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    unmapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)


def dry_run(service: CatalogueService, files: Iterable[FoundFile | WalkProblem]) -> DryRun:
    """Read the first MAX_FILES files in the confined child and count what the mapping makes of them."""
    run = DryRun()
    roots = tuple(pool.root.resolve() for pool in service.config.pools)
    with open_reader(service.config.catalogue, roots, service.config.web.state_folder) as reader:
        for found in files:
            if isinstance(found, WalkProblem):
                run.problems.append((found.path, found.reason))
                continue
            if run.n_files >= MAX_FILES:
                break
            run.n_files += 1
            answer = reader.read(FileRequest(path=str(found.absolute), explain=True))
            if answer.report is None:
                run.problems.append((found.path, answer.reason or "cannot be read"))
                continue
            run.found.update(set(answer.report.found_at))
            run.unmapped.update({(one.path, one.kind) for one in answer.report.unmapped})
    return run
