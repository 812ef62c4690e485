"""Which records are ours to publish: of a mirrored catalogue, that catalogue is the authority."""

from __future__ import annotations

from sqlalchemy import ColumnElement

from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.models.data import FILES
from beamhub_core.config.facility import FacilityConfig


def own_sources(config: FacilityConfig) -> tuple[str, ...]:
    """The sources whose records we publish: our own harvest, and those that are declared ours."""
    return (FILES,)


def is_own(config: FacilityConfig) -> ColumnElement[bool]:
    """Datasets that are ours to publish."""
    return DatasetRow.source.in_(own_sources(config))
