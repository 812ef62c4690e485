"""A facility and its catalogue for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from beamhub_catalogue import CatalogueService
from catalogue.catalogue_parts import Facility


@pytest.fixture
def facility(tmp_path: Path) -> Facility:
    """A prepared facility without data."""
    made = Facility(tmp_path)
    made.prepare()
    return made


@pytest.fixture
def service(facility: Facility) -> Iterator[CatalogueService]:
    """A catalogue on the facility, without its background scan."""
    made = facility.service()
    yield made
    made.stop()
