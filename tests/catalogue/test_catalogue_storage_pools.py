"""The table of storage pools follows the configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import StoragePoolRow
from beamhub_catalogue.storage_pools import keep_pools
from beamhub_core.config.storage import PoolConfig
from catalogue.catalogue_parts import NOW  # the folder of these tests, not the room


def pool(name: str, root: str) -> PoolConfig:
    return PoolConfig(name=name, root=Path(root), target=Path(root))


def test_pools_are_written_when_they_change_and_only_then(service: CatalogueService) -> None:
    database = service.database
    first, second = (pool("a", "/pools/a"), pool("b", "/pools/b")), (pool("b", "/pools/b2"),)
    assert keep_pools(database, first, NOW)
    assert not keep_pools(database, first, NOW + timedelta(days=1))
    assert keep_pools(database, second, NOW + timedelta(days=2))
    with database.reading() as session:
        rows = [(row.name, row.root, row.configured_at) for row in session.query(StoragePoolRow)]
    assert rows == [("b", "/pools/b2", NOW + timedelta(days=2))]


def test_a_service_knows_the_pools_of_its_configuration(service: CatalogueService) -> None:
    with service.database.reading() as session:
        assert [row.name for row in session.query(StoragePoolRow)] == ["pool"]
