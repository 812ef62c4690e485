"""A facility and its catalogue for each test, without data and with it, its internal API and its command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from beamhub_catalogue import CatalogueService
from catalogue.catalogue_api_parts import Api, Stocked, copy_of, open_api, open_stocked, prepare_with_data
from catalogue.catalogue_parts import Facility
from catalogue.catalogue_shell_parts import Shell


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


@pytest.fixture
def api(service: CatalogueService) -> Iterator[Api]:
    """The internal API of that catalogue."""
    with open_api(service) as made:
        yield made


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a facility whose data is catalogued. Read-only: `copy_of` gives each test its own."""
    return prepare_with_data(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def stocked(prepared: Path, tmp_path: Path) -> Iterator[Stocked]:
    """A facility with data, its catalogue and its internal API, with everybody logged in."""
    with open_stocked(prepared, tmp_path / "stocked") as made:
        yield made


@pytest.fixture
def shell(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command at a facility with data."""
    return Shell(copy_of(prepared, tmp_path / "stocked"), capsys)
