"""What counts as something that happens in a session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ptyprocess import PtyProcessUnicode

from beamhub_session.activity import ActivityProbe, ProcessorUse, has_program_in_front, is_deed
from beamhub_session.first_cell import FirstCell


def wait_for(what: Callable[[], bool]) -> None:
    deadline, waiter = time.monotonic() + 30, threading.Event()
    while not what():
        assert time.monotonic() < deadline
        waiter.wait(0.05)


@pytest.mark.parametrize(
    ("method", "path", "counts"),
    [
        ("GET", "/user/c/api/kernels", False),
        ("GET", "/user/c/api/contents", False),
        ("GET", "/user/c/dask/clusters", False),
        ("PUT", "/user/c/lab/api/workspaces/default", False),
        ("HEAD", "/user/c/api/status", False),
        ("PUT", "/user/c/api/contents/a.ipynb", True),
        ("POST", "/user/c/api/sessions", True),
        ("DELETE", "/user/c/api/kernels/1", True),
    ],
)
def test_questions_of_an_open_lab_are_no_deeds(method: str, path: str, counts: bool) -> None:
    assert is_deed(method, path) is counts


def test_a_terminal_counts_while_a_program_holds_it_and_not_at_its_prompt() -> None:
    process = PtyProcessUnicode.spawn(["/bin/bash", "--norc", "-i"])
    terminal = SimpleNamespace(ptyproc=process)
    try:
        wait_for(lambda: not has_program_in_front(terminal))
        process.write("sleep 3\n")  # an interrupt would not end it where whoever runs the tests ignores those
        wait_for(lambda: has_program_in_front(terminal))
        wait_for(lambda: not has_program_in_front(terminal))
    finally:
        process.terminate(force=True)
        process.close()
    assert has_program_in_front(SimpleNamespace(ptyproc=None))  # nobody can tell


@pytest.mark.parametrize(
    ("state", "busy"), [("idle", False), ("dead", False), ("busy", True), ("starting", True), (None, True)]
)
def test_a_kernel_of_which_nobody_can_tell_counts_as_busy(state: str | None, busy: bool) -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 11, 21, tzinfo=UTC)
    manager = SimpleNamespace(
        list_kernel_ids=lambda: ["k"], get_kernel=lambda _: SimpleNamespace(execution_state=state)
    )
    web_app = SimpleNamespace(settings={}, last_activity=lambda: now - timedelta(hours=3))
    app = SimpleNamespace(kernel_manager=manager, web_app=web_app)
    seen = ActivityProbe(app, ProcessorUse(clock=lambda: 0.0)).look(now)
    assert (seen.busy_with == ("kernel",)) is busy
    assert seen.idle_s == (0.0 if busy else 3 * 3600)


def test_the_first_cell_is_one_that_ran_to_its_end() -> None:
    log = SimpleNamespace(info=lambda *_: None)
    cell = FirstCell(SimpleNamespace(log=log, io_loop=SimpleNamespace(add_callback=lambda _: None)))

    def say(kind: str, parent: str, **content: Any) -> None:
        cell.take({"msg_type": kind}, {"msg_id": parent}, content)

    say("status", "info", execution_state="idle")  # of a question for the kernel's name
    say("execute_input", "one", code="1")
    say("status", "two", execution_state="idle")
    assert cell.ago_s is None
    say("status", "one", execution_state="busy")
    assert cell.ago_s is None
    say("status", "one", execution_state="idle")
    assert cell.ago_s is not None
