"""Harvest: from the files of the pools to the catalogue, and again without reading what did not change."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from sqlalchemy import delete, false, func, or_, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session, aliased

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.file_report import FileAnswer, FileReport, FileRequest
from beamhub_catalogue.grants import HOME_POOL
from beamhub_catalogue.keeping import is_about_values
from beamhub_catalogue.models import DatasetRow, FileRow, SeenFileRow
from beamhub_catalogue.reader import FileReader, open_reader
from beamhub_catalogue.records import (
    Location,
    NotCatalogued,
    find_inputs,
    read_product,
    store_product,
    store_raw,
)
from beamhub_catalogue.vanished import is_below, note_vanished
from beamhub_catalogue.views import ProblemView
from beamhub_catalogue.walk import FoundFile, WalkProblem, named_file, walk_pool
from beamhub_core.config.catalogue import HarvestRoot
from beamhub_core.config.storage import PoolConfig

log = logging.getLogger(__name__)

MAX_PREVIEW_BYTES = 8_000_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROBLEMS = 500
PID_MARK = "pid:"
UNKEPT = "holds a value that the catalogue cannot keep, such as a time beyond the year 9999"


@dataclass(slots=True)
class HarvestReport:
    """What one scan did, and how what it looked at stands.

    `harvested` are the pids that it made or renewed, `problems` what it found itself, `standing_problems` the
    files that an earlier scan set aside and that did not change since. `n_datasets` counts the raw datasets
    below the scanned roots. `waiting` are files that cannot be read yet and were changed just now.
    """

    harvested: list[str] = field(default_factory=list)
    n_unchanged: int = 0
    problems: list[ProblemView] = field(default_factory=list)
    standing_problems: list[ProblemView] = field(default_factory=list)
    n_datasets: int = 0
    waiting: list[str] = field(default_factory=list)

    @property
    def all_problems(self) -> tuple[ProblemView, ...]:
        """New and standing problems."""
        return (*self.problems, *self.standing_problems)


class Harvester:
    """Scans harvest roots; one scan at a time on this machine, also between processes."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._database = desk, desk.database
        self._config, self._clock = desk.config, desk.clock
        self._state = self._config.web.state_folder
        self._previews = self._state / "previews"
        self._previews.mkdir(parents=True, exist_ok=True)
        self._stopping = threading.Event()
        self._reader: FileReader | None = None
        self.walk_problems: tuple[ProblemView, ...] = ()
        self.last_scan_at: datetime | None = None

    def scan(self, pool: str | None = None, path: str | None = None) -> HarvestReport:
        """Bring the catalogue up to date with all harvest roots, or with one folder or file of a pool."""
        report = HarvestReport()
        self._desk.rules.refresh()
        roots = self.roots(pool, path)
        with self._one_at_a_time():
            there: set[tuple[str, str]] = set()
            walked = self._take_found(self.found(roots), report, there)
            if not walked and not self._stopping.is_set():
                report.problems += note_vanished(self._database, roots, there, self._clock())
            if pool is None:
                self.walk_problems, self.last_scan_at = tuple(walked[:MAX_PROBLEMS]), self._clock()
            report.problems = [*walked, *report.problems]
            report.n_datasets = self._n_datasets(roots)
        return report

    def take(self, paths: Iterable[Path]) -> HarvestReport:
        """Bring the catalogue up to date with these files, which somebody names; no folder is walked."""
        report = HarvestReport()
        self._desk.rules.refresh()
        with self._one_at_a_time():
            walked = self._take_found((named_file(self._config.pools, path) for path in paths), report, set())
        report.problems = [*walked, *report.problems]
        return report

    def _take_found(
        self,
        all_found: Iterable[FoundFile | WalkProblem],
        report: HarvestReport,
        there: set[tuple[str, str]],
    ) -> list[ProblemView]:
        """Catalogue what is new or changed, and fill `there` with all files; what is none comes back."""
        changed: list[FoundFile] = []
        walked: list[ProblemView] = []
        for found in all_found:
            if isinstance(found, WalkProblem):
                walked.append(ProblemView(f"harvest:{found.pool}", found.path, found.reason))
                continue
            there.add((found.pool, found.path))
            if (seen := self._unchanged(found)) is not None:
                report.n_unchanged += 1
                if seen.reason is not None:
                    report.standing_problems.append(_problem(found, seen.reason))
            else:
                changed.append(found)
        # Products after the data that they were made from.
        changed.sort(key=lambda file: file.is_processed)
        self._take_all(changed, report)
        self._drop_detector_files()
        return walked

    def stop(self) -> None:
        """End a scan that is under way after the file in hand, which stays as it was."""
        self._stopping.set()
        reader = self._reader
        if reader is not None:
            reader.cancel()

    def problems(self) -> tuple[ProblemView, ...]:
        """Files that need a person, as of the last look at each."""
        with self._database.reading() as session:
            rows = session.scalars(
                select(SeenFileRow)
                .where(SeenFileRow.outcome.in_(("damaged", "refused")))
                .order_by(SeenFileRow.pool, SeenFileRow.path)
                .limit(MAX_PROBLEMS)
            ).all()
        seen = tuple(ProblemView(f"harvest:{row.pool}", row.path, row.reason or "") for row in rows)
        return self.walk_problems + seen

    def preview_path(self, pid: str) -> Path:
        """Where the preview of a dataset is kept."""
        return Path(self._previews) / f"{hashlib.sha256(pid.encode()).hexdigest()}.png"

    def read_one(self, file: FoundFile, roots: tuple[Path, ...]) -> tuple[FileAnswer, bytes | None]:
        """Read one file in a child of its own, with its hash and preview."""
        with open_reader(self._config.catalogue, roots, self._state) as reader:
            return _ask(reader, file)

    def keep_preview(self, pid: str, png: bytes | None) -> bool:
        """Store a rendered preview; False when there is none."""
        if png is None:
            return False
        target = self.preview_path(pid)
        part = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        part.write_bytes(png)
        part.replace(target)
        return True

    def roots(self, pool: str | None, path: str | None) -> tuple[HarvestRoot, ...]:
        if pool is None:
            return self._config.catalogue.harvest_roots
        return (HarvestRoot(pool=pool, path=path),)

    def found(self, roots: tuple[HarvestRoot, ...]) -> Iterator[FoundFile | WalkProblem]:
        pools = {p.name: p for p in self._config.pools}
        for root in roots:
            yield from _walk_root(pools[root.pool], root.path)

    def _n_datasets(self, roots: tuple[HarvestRoot, ...]) -> int:
        below = [is_below(root) for root in roots]
        query = select(func.count()).select_from(DatasetRow).where(DatasetRow.kind == "raw")
        with self._database.reading() as session:
            return session.scalar(query.where(or_(false(), *below))) or 0

    def _unchanged(self, file: FoundFile) -> SeenFileRow | None:
        """What an earlier scan made of a file; None when it has to be read, again or for the first time."""
        with self._database.reading() as session:
            row = session.get(SeenFileRow, (file.pool, file.path))
            if row is None:
                return None
            now = (file.size_bytes, file.modified_ns, file.inode)
            if (row.size_bytes, row.modified_ns, row.inode) != now:
                return None
            return None if any(_has_come(session, missing) for missing in row.waits_for) else row

    def _take_all(self, files: list[FoundFile], report: HarvestReport) -> None:
        if not files:
            return
        roots = tuple(pool.root.resolve() for pool in self._config.pools)
        with open_reader(self._config.catalogue, roots, self._state) as reader:
            self._reader = reader
            try:
                for file in files:
                    if self._stopping.is_set():
                        return
                    answer, png = _ask(reader, file)
                    if per_s := self._config.catalogue.harvest_files_per_s:
                        self._stopping.wait(1 / per_s)
                    if not self._stopping.is_set():
                        self._take(file, answer, png, report)
            finally:
                self._reader = None

    def _take(self, file: FoundFile, answer: FileAnswer, png: bytes | None, report: HarvestReport) -> None:
        if answer.report is None and self._is_fresh(file):
            report.waiting.append(file.path)  # it may be half written: the next scan looks again
            return
        links = answer.report.missing_links if answer.report else ()
        seen = SeenFileRow(outcome="damaged", reason=answer.reason, pid=None)
        seen.waits_for = [link.file for link in links if link.file and not os.path.exists(link.file)]  # noqa: PTH110  # Path.exists raises where a folder is closed to us
        try:
            with self._database.writing() as session:
                if answer.report is not None:
                    self._catalogue(session, file, answer.report, png, seen)
                _remember(session, file, seen, self._clock())
        except StatementError as error:
            if not is_about_values(error):
                raise
            seen = SeenFileRow(outcome="refused", reason=UNKEPT, pid=None, waits_for=[])
            with self._database.writing() as session:
                _remember(session, file, seen, self._clock())
        if seen.pid is not None:
            report.harvested.append(seen.pid)
        if seen.reason is not None:
            report.problems.append(_problem(file, seen.reason))

    def _is_fresh(self, file: FoundFile) -> bool:
        """Whether a file was changed so lately that its writer may not be done; by the machine's clock."""
        return time.time() - file.modified_ns / 1e9 < self._config.catalogue.unfinished_wait_s

    def _catalogue(
        self, session: Session, file: FoundFile, report: FileReport, png: bytes | None, seen: SeenFileRow
    ) -> None:
        """Make the dataset of a file that could be read, and write on `seen` what became of it."""
        try:
            row = self._store(session, file, report, self._clock())
        except NotCatalogued as refused:
            seen.outcome, seen.reason = "refused", refused.reason
            if refused.waits_for_pid is not None:
                seen.waits_for = [*seen.waits_for, PID_MARK + refused.waits_for_pid]
            return
        seen.outcome, seen.reason = "other", None
        if row is not None:
            seen.outcome, seen.pid = "weak" if _is_weak(file, report) else "dataset", row.pid
            row.has_preview = self.keep_preview(row.pid, png)

    def _store(
        self, session: Session, file: FoundFile, report: FileReport, now: datetime
    ) -> DatasetRow | None:
        """The dataset of a file; None for a file that is none."""
        if not report.is_nexus:
            return None
        if file.is_processed:
            if report.provenance is None:
                return None
            where = Location(file)
            product = read_product(self._config, where, report)
            inputs = find_inputs(session, product)
            foreign = [row for row in inputs if row.proposal != file.proposal or row.private_to]
            if foreign and not self._desk.may_read_all(session, product.account, foreign):
                reason = f"was made from {foreign[0].pid!r}, which the account that it names may not read"
                raise NotCatalogued(reason)
            return store_product(session, product, where, inputs, now)
        if report.experiment_identifier is None and (
            not report.has_identity or _is_linked(session, file.pool, file.path)
        ):
            return None
        return store_raw(session, self._config, file, report, now)

    def _drop_detector_files(self) -> None:
        """Take back datasets of files that turned out to be parts of another dataset."""
        other = aliased(DatasetRow)
        with self._database.writing() as session:
            weak = session.execute(
                select(SeenFileRow, DatasetRow)
                .join(DatasetRow, DatasetRow.pid == SeenFileRow.pid)
                .join(FileRow, (FileRow.pool == SeenFileRow.pool) & (FileRow.path == SeenFileRow.path))
                .join(other, other.id == FileRow.dataset_id)
                .where(SeenFileRow.outcome == "weak", other.id != DatasetRow.id)
            ).all()
            for seen, row in weak:
                seen.outcome, seen.pid = "other", None
                session.execute(delete(DatasetRow).where(DatasetRow.id == row.id))

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with (self._state / "harvest.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _walk_root(pool: PoolConfig, path: str | None) -> Iterator[FoundFile | WalkProblem]:
    """A folder, or the folder around a file of which only that file is taken."""
    try:
        is_file = path is not None and (pool.root / path).is_file()
    except OSError as error:  # e.g. a name that is too long for any file
        yield WalkProblem(pool.name, path or "", f"cannot be looked at: {error.strerror}")
        return
    if path is not None and is_file:
        parent = PurePosixPath(path).parent
        for found in walk_pool(pool, None if str(parent) == "." else str(parent)):
            if found.path == path:
                yield found
        return
    yield from walk_pool(pool, path)


def _problem(file: FoundFile, reason: str) -> ProblemView:
    return ProblemView(f"harvest:{file.pool}", file.path, reason)


def _ask(reader: FileReader, file: FoundFile) -> tuple[FileAnswer, bytes | None]:
    preview = reader.scratch / "preview.png"
    preview.unlink(missing_ok=True)
    wants_hash = file.is_processed or file.pool == HOME_POOL
    answer = reader.read(FileRequest(path=str(file.absolute), preview=str(preview), hash=wants_hash))
    if answer.report is None or not answer.report.has_preview:
        return answer, None
    return answer, _read_png(preview)


def _read_png(path: Path) -> bytes | None:
    """The picture that the child wrote, if it is one: the child is not trusted with a link or a fifo."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        png = file.read(MAX_PREVIEW_BYTES + 1)
    return png if png.startswith(PNG_SIGNATURE) and len(png) <= MAX_PREVIEW_BYTES else None


def _has_come(session: Session, missing: str) -> bool:
    """Whether something that a file waited for, a file or a dataset, is there now."""
    if missing.startswith(PID_MARK):
        pid = missing.removeprefix(PID_MARK)
        return session.scalar(select(DatasetRow.id).where(DatasetRow.pid == pid)) is not None
    return os.path.exists(missing)  # noqa: PTH110  # Path.exists raises where a folder is closed to us


def _is_weak(file: FoundFile, report: FileReport) -> bool:
    """A dataset that would vanish if another file linked to it: it does not name its proposal itself."""
    return not file.is_processed and report.experiment_identifier is None


def _is_linked(session: Session, pool: str, path: str) -> bool:
    query = (
        select(FileRow.id)
        .join(DatasetRow, DatasetRow.id == FileRow.dataset_id)
        .where(FileRow.pool == pool, FileRow.path == path, DatasetRow.file != path)
    )
    return session.scalar(query.limit(1)) is not None


def _remember(session: Session, file: FoundFile, seen: SeenFileRow, now: datetime) -> None:
    seen.pool, seen.path = file.pool, file.path
    seen.size_bytes, seen.modified_ns, seen.inode = file.size_bytes, file.modified_ns, file.inode
    seen.seen_at = now
    session.merge(seen)
