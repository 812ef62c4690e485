"""One running hub for all modules that can share it: a start takes seconds, a login leaves little behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hub.hub_parts import RunningHub, await_hub, running_hub  # the folder of these tests, not the room


@pytest.fixture(scope="session")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with a provider that lies on demand; each process that runs tests has one of its own."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


def make_honest(hub: RunningHub) -> None:
    """An honest provider, a web service that is up, and no notes of earlier tests."""
    hub.provider.reset()
    hub.forget_log()
    web = hub.web
    web.is_down, web.refusal, web.verdicts = False, None, []
    for notes in (web.pushes, web.notices, web.removed, web.left_queue, web.links, web.updates):
        notes.clear()


@pytest.fixture(scope="module")
def module_hub(shared_hub: RunningHub) -> Iterator[RunningHub]:
    """The shared hub, awake for the tests of one module; while others run it takes no processor time."""
    make_honest(shared_hub)
    os.kill(shared_hub.process.pid, signal.SIGCONT)
    await_hub(shared_hub.process, shared_hub.url, shared_hub.folder)  # one that died says here what it said
    yield shared_hub
    os.kill(shared_hub.process.pid, signal.SIGSTOP)


@pytest.fixture
def hub(module_hub: RunningHub) -> RunningHub:
    """The module's hub, of which earlier tests left nothing."""
    make_honest(module_hub)
    return module_hub
