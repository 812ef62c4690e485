"""The adapter of a source's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from beamhub_catalogue.sources.catalogue import CatalogueSource
from beamhub_catalogue.sources.icat import IcatSource
from beamhub_catalogue.sources.mymdc import MymdcSource
from beamhub_catalogue.sources.panosc import PanoscSource
from beamhub_catalogue.sources.scicat import ScicatSource
from beamhub_core.config.catalogue_sources import (
    CatalogueSourceConfig,
    IcatSourceConfig,
    MymdcSourceConfig,
    ScicatSourceConfig,
)


@contextmanager
def open_source(config: CatalogueSourceConfig) -> Iterator[CatalogueSource]:
    """The adapter, closed afterwards."""
    source: CatalogueSource
    if isinstance(config, ScicatSourceConfig):
        source = ScicatSource(config)
    elif isinstance(config, IcatSourceConfig):
        source = IcatSource(config)
    elif isinstance(config, MymdcSourceConfig):
        source = MymdcSource(config)
    else:
        source = PanoscSource(config)
    try:
        yield source
    finally:
        source.close()
