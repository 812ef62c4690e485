"""What the tests of every room share: a valid configuration, a free port, the strict ways of CI."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from beamhub_core.process_table import is_running
from examples import SOAK_EXAMPLES
from facility_file import (
    FacilityFile,
    facility_data_in,
    write_folders_and_secrets,
    write_rules_and_rows,
)
from kept_processes import child_processes, kept_processes
from postgresql_server import (  # noqa: F401  # fixtures, for all rooms
    chosen_database,
    no_database_outlives_its_test,
    postgresql_server,
    postgresql_url,
)

ROOT = Path(__file__).resolve().parents[1]

# `ci` draws the same examples in every run, and fewer; `dev` draws new ones. A deadline per example would
# measure the machine's other work, so there is none.
hypothesis.settings.register_profile("ci", derandomize=True, max_examples=25, deadline=None, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile("soak", max_examples=SOAK_EXAMPLES, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("BEAMHUB_HYPOTHESIS", "dev"))

LEAK_GRACE_S = 10.0
# Pools that libraries keep for the whole process, by the start of their threads' names.
KEPT_THREADS = (
    "Dask-",
    "IO loop",
    "TCP-Executor",
    "Profile",
    "asyncio_",
    "ThreadPoolExecutor-",
    "AnyIO worker",
    "agent-folders",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="A skipped test fails: for the one place that has every tool.",
    )
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="Where the web service keeps its rows in tests that are not about one database.",
    )


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if config.getoption("--no-skips") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped although nothing may be (--no-skips): {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report, collector.config)
    return report


@pytest.fixture
def facility_config(tmp_path: Path) -> Callable[..., FacilityFile]:
    """A function that makes a valid configuration with all it names; keywords replace whole sections."""

    def make(folder: Path | None = None, **changes: Any) -> FacilityFile:
        folder = folder or tmp_path / "facility"
        write_folders_and_secrets(folder)
        write_rules_and_rows(folder)
        made = FacilityFile(folder, facility_data_in(folder) | changes)
        made.write()
        return made

    return make


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nothing listened on a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def facility_data() -> Path:
    """The folder of real facility files beside the checkout; BEAMHUB_FACILITY_DATA names another."""
    folder = Path(os.environ.get("BEAMHUB_FACILITY_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real facility files: set BEAMHUB_FACILITY_DATA to their folder")
    return folder


def _live_children() -> set[int]:
    """The processes that this one started and that still run; a zombie does not."""
    return {pid for pid in child_processes() if is_running(pid)}


def _left_over(threads: set[threading.Thread], children: set[int]) -> list[str]:
    new = [t for t in threading.enumerate() if t not in threads and not t.daemon]
    found = [f"thread {t.name}" for t in new if not t.name.startswith(KEPT_THREADS)]
    return found + [f"process {pid}" for pid in sorted(_live_children() - children - kept_processes)]


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    """A thread that keeps the process alive, or a child process, that a test started and left: it fails.

    What fixtures of a module or of the session start is there before, and is theirs to stop; so is what a
    test starts in its place (`kept_processes.py`).
    """
    threads, children = set(threading.enumerate()), _live_children()
    yield
    deadline = time.monotonic() + LEAK_GRACE_S
    while (left := _left_over(threads, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"left running by the test: {', '.join(left)}"
