"""Raw data that left its pool: to tape, or for good. The record stays and says that it is offline."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import DatasetRow, SeenFileRow
from beamhub_catalogue.models.data import FILES
from beamhub_catalogue.views import ProblemView
from beamhub_core.config.catalogue import HarvestRoot

OFFLINE, ONLINE = "offline", "online"
FEW = 10
"""So many files may vanish at once without a second look, even if they were all."""


def note_vanished(
    database: Database, roots: tuple[HarvestRoot, ...], there: set[tuple[str, str]], now: datetime
) -> list[ProblemView]:
    """Mark datasets whose file is gone, and those whose file came back; `there` are all (pool, path).

    Nothing is marked below a root where most files are gone at once: then it is the mount that is missing.
    """
    problems: list[ProblemView] = []
    for root in roots:
        mine = and_(is_below(root), DatasetRow.kind == "raw", DatasetRow.source == FILES)
        with database.reading() as session:
            columns = (DatasetRow.id, DatasetRow.pool, DatasetRow.file, DatasetRow.lifecycle)
            rows = session.execute(select(*columns).where(mine)).all()
        online = [row for row in rows if row.lifecycle == ONLINE]
        gone = [row for row in online if (row.pool, row.file) not in there]
        back = [row.id for row in rows if row.lifecycle == OFFLINE and (row.pool, row.file) in there]
        if len(gone) > max(FEW, len(online) // 2):
            reason = f"lacks {len(gone)} of {len(online)} files that were there; is all of it mounted?"
            problems.append(ProblemView(f"harvest:{root.pool}", root.path or "", reason))
            gone = []
        _mark(database, [row.id for row in gone], OFFLINE, now)
        _mark(database, back, ONLINE, now)
        with database.writing() as session:
            for row in gone:  # it is read again if it comes back
                same = (SeenFileRow.pool == row.pool) & (SeenFileRow.path == row.file)
                session.execute(delete(SeenFileRow).where(same))
    return problems


def _mark(database: Database, ids: list[int], lifecycle: str, now: datetime) -> None:
    if ids:
        rows = [{"id": i, "lifecycle": lifecycle, "changed_at": now} for i in ids]
        with database.writing() as session:
            session.execute(update(DatasetRow), rows)


def is_below(root: HarvestRoot) -> ColumnElement[bool]:
    """Datasets whose file is a root or lies in it, compared by path components."""
    if root.path is None:
        return DatasetRow.pool == root.pool
    inside = func.substr(DatasetRow.file, 1, len(root.path) + 1) == f"{root.path}/"
    return and_(DatasetRow.pool == root.pool, or_(DatasetRow.file == root.path, inside))
