"""Storage pools in the table, as the configuration describes them: what paths in other tables stand below."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import StoragePoolRow
from beamhub_core.config.storage import PoolConfig

_ALL = select(StoragePoolRow)


def keep_pools(database: Database, pools: tuple[PoolConfig, ...], now: datetime) -> bool:
    """Make the table say what the configuration says; whether it had to change."""
    told = {pool.name: (str(pool.root), str(pool.target), pool.group_mode) for pool in pools}
    with database.reading() as session:
        kept = {row.name: (row.root, row.target, row.group_mode) for row in session.scalars(_ALL)}
    if kept == told:
        return False
    changed = [name for name, facts in told.items() if kept.get(name) != facts]
    with database.writing() as session:
        session.execute(delete(StoragePoolRow).where(StoragePoolRow.name.not_in(told)))
        session.execute(delete(StoragePoolRow).where(StoragePoolRow.name.in_(changed)))
        for name in changed:
            root, target, mode = told[name]
            session.add(
                StoragePoolRow(name=name, root=root, target=target, group_mode=mode, configured_at=now)
            )
    return True
