"""What the tests of every room share: a valid configuration, a free port, the strict ways of CI."""

from __future__ import annotations

import copy
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

from beamhub_core.config import FacilityConfig, read_config
from examples import SOAK_EXAMPLES
from kept_processes import kept_processes
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


@dataclass(frozen=True)
class FacilityFile:
    """A valid `facility.yaml` in a folder of its own, with every file and folder that it names."""

    folder: Path
    data: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / "facility.yaml"

    def write(self, data: Any = None) -> Path:
        """Write `data`, or what this object holds, as the file, and return its path."""
        self.path.write_text(yaml.safe_dump(self.data if data is None else data, sort_keys=False), "utf-8")
        return self.path

    def read(self) -> FacilityConfig:
        """The file as it stands, read by the platform's own reader."""
        return read_config(self.path)

    def copy(self) -> dict[str, Any]:
        """The data, to change and to give to `write`."""
        return copy.deepcopy(self.data)


SECRETS = ("provider", "proxy", "crypt-key", "hub-cookie", "web-cookie", "web-service", "hub-client")
FOLDERS = ("pool", "hub", "web", "sessions", "homes", "templates")


def facility_data_in(folder: Path) -> dict[str, Any]:
    """The smallest configuration that is valid: one pool, one local place, one provider."""

    def secret(name: str) -> str:
        return str(folder / "secrets" / name)

    return {
        "name": "Test facility",
        "short_name": "test",
        "pools": [{"name": "pool", "root": str(folder / "pool"), "target": str(folder / "pool")}],
        "login": {
            "providers": [
                {
                    "name": "community",
                    "title": "Community login",
                    "issuer": "https://provider.example/oidc",
                    "client_id": "beamhub",
                    "client_secret_file": secret("provider"),
                }
            ]
        },
        "hub": {
            "public_url": "http://127.0.0.1:8000",
            "database_url": f"sqlite:///{folder / 'hub' / 'hub.sqlite'}",
            "state_folder": str(folder / "hub"),
            "crypt_key_file": secret("crypt-key"),
            "cookie_secret_file": secret("hub-cookie"),
            "web_client_token_file": secret("hub-client"),
            "proxy": {"api_url": "http://127.0.0.1:8001", "token_file": secret("proxy")},
        },
        "web": {
            "internal_url": "http://127.0.0.1:8082",
            "hub_api_url": "http://127.0.0.1:8081/hub/api",
            "hub_service_token_file": secret("web-service"),
            "cookie_secret_file": secret("web-cookie"),
            "database_url": f"sqlite:///{folder / 'web' / 'web.sqlite'}",
            "state_folder": str(folder / "web"),
            "clients": [{"name": "hub", "token_file": secret("hub-client"), "scopes": ["grants:read"]}],
        },
        "catalogue": {
            "policy_file": str(folder / "policy.yaml"),
            "user_offices": [
                {
                    "name": "office",
                    "kind": "csv",
                    "proposals": str(folder / "proposals.csv"),
                    "members": str(folder / "members.csv"),
                }
            ],
        },
        "sessions": {
            "places": [{"name": "here", "backend": "local", "pools": ["pool"]}],
            "profiles": [{"name": "small", "title": "Small", "cpu": 1, "memory_gib": 2}],
            "environments": [{"name": "standard", "title": "Standard", "image": "local"}],
            "templates_folder": str(folder / "templates"),
            "homes_folder": str(folder / "homes"),
            "state_folder": str(folder / "sessions"),
            "web_url": "http://127.0.0.1:8082",
        },
    }


@pytest.fixture
def facility_config(tmp_path: Path) -> Callable[..., FacilityFile]:
    """A function that makes a valid configuration with all it names; keywords replace whole sections."""

    def make(folder: Path | None = None, **changes: Any) -> FacilityFile:
        folder = folder or tmp_path / "facility"
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "secrets").mkdir(exist_ok=True, mode=0o700)
        for name in SECRETS:
            path = folder / "secrets" / name
            path.touch(mode=0o600)
            path.write_text(name.encode().hex().ljust(64, "0")[:64] + "\n")
        (folder / "policy.yaml").write_text(
            'version: "1"\ntimezone: UTC\nclasses: {standard: {embargo_months: 36, metadata: public}}\n'
        )
        (folder / "proposals.csv").write_text("proposal,title,class,instrument,start,end\n")
        (folder / "members.csv").write_text(
            "proposal,issuer,subject,orcid,facility_account,name,role,from,until\n"
        )
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
    children: set[int] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        try:
            children.update(int(word) for word in listed.read_text().split())
        except OSError:
            continue  # the thread ended meanwhile
    return {pid for pid in children if _state(pid) not in ("Z", "X", "")}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


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
