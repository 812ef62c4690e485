"""One house for all tests of the pages, with a fresh browser and a fresh hub's memory for each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from portal.portal_parts import Browser, House, running_house  # the tests' folder, not the room


@pytest.fixture(scope="session")
def built_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A portal whose files were harvested once."""
    with running_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def house(built_house: House) -> House:
    """The portal, with nothing left of other tests in the hub."""
    hub = built_house.hub
    hub.person, hub.start_answer, hub.broken, hub.starts = None, None, False, 0
    hub.tokens, hub.codes, hub.servers, hub.bodies = {}, {}, {}, []
    built_house.clock.ahead = timedelta(0)
    return built_house


@pytest.fixture
def browser(house: House) -> Iterator[Browser]:
    """Somebody's browser, without cookies."""
    browser = Browser(house)
    yield browser
    browser.close()


@pytest.fixture
def other_browser(house: House) -> Iterator[Browser]:
    """A second browser."""
    browser = Browser(house)
    yield browser
    browser.close()
