"""A hub below the floor does not start, and says so in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from beamhub_hub.version_floor import FLOORS, check_versions

ROOT = Path(__file__).resolve().parents[2]


def installed(folder: Path, name: str, text: str | None) -> None:
    """The metadata of a distribution in a folder, as an installer writes it."""
    info = folder / f"{name}-{text or '0'}.dist-info"
    info.mkdir(parents=True)
    version_line = "" if text is None else f"Version: {text}\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{version_line}")


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """The hub's start, with a folder before everything that is installed."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-m", "beamhub_hub", "--config", str(folder / "none.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("jupyterhub", "6.1.0"),
        ("jupyterhub", "6.1.1rc1"),
        ("oauthenticator", "17.3.9"),
        ("PyJWT", "2.9.0"),
        ("tornado", "6.5.7"),
        ("tornado", "no version"),
        ("jupyterhub", None),
    ],
)
def test_an_old_part_stops_the_start_with_one_line(tmp_path: Path, name: str, found: str | None) -> None:
    installed(tmp_path, name, found)
    done = start(tmp_path)
    assert done.returncode == 7
    assert len(done.stderr.strip().splitlines()) == 1
    assert name in done.stderr
    assert FLOORS[name] in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_every_old_part_is_named_at_once(tmp_path: Path) -> None:
    installed(tmp_path, "jupyterhub", "5.4.5")
    installed(tmp_path, "tornado", "6.4.2")
    done = start(tmp_path)
    assert re.search(r"jupyterhub 5\.4\.5 is below 6\.1\.1; tornado 6\.4\.2 is below 6\.6", done.stderr)


def test_what_is_installed_here_is_above_the_floor() -> None:
    check_versions()
    assert {
        name: Version(version(name)) >= Version(floor) for name, floor in FLOORS.items()
    } == dict.fromkeys(FLOORS, True)


def test_the_floor_is_what_an_installer_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = " ".join(project["optional-dependencies"]["hub"]).lower()
    for name, floor in FLOORS.items():
        assert re.search(rf"\b{name.lower()}(\[\w+\])?>={re.escape(floor.removesuffix('.0'))}", asked), name
