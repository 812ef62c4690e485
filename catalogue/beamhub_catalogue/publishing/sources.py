"""Which records are ours to publish: of a mirrored catalogue, that catalogue is the authority."""

from __future__ import annotations

from sqlalchemy import ColumnElement

from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.models.data import FILES
from beamhub_catalogue.told_store import INGEST
from beamhub_core.config.facility import FacilityConfig


def own_sources(config: FacilityConfig) -> tuple[str, ...]:
    """The sources whose records we publish: harvest, ingest, and catalogues that are no authority."""
    ours = (source.name for source in config.catalogue.sources if not source.authority)
    return (FILES, INGEST, *ours)


def is_own(config: FacilityConfig) -> ColumnElement[bool]:
    """Datasets that are ours to publish."""
    return DatasetRow.source.in_(own_sources(config))
