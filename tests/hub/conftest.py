"""One running hub per module: a start takes seconds, and a login leaves nothing that the next one needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.hub_parts import RunningHub, running_hub  # the folder of these tests, not the room


@pytest.fixture(scope="module")
def module_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with a provider that lies on demand, for the tests of one module."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(module_hub: RunningHub) -> RunningHub:
    """The module's hub, with an honest provider, a web service that is up, and no notes of earlier tests."""
    module_hub.provider.reset()
    module_hub.web.is_down = False
    module_hub.web.verdicts = []
    module_hub.web.pushes.clear()
    module_hub.web.notices.clear()
    module_hub.web.removed.clear()
    return module_hub
