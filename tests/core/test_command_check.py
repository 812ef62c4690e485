"""`beamhub check`: problems of the configuration and of everything that it names, all at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.check import Finding, check_environment
from beamhub_core.landlock import available_abi
from core.config_parts import PLACES_OF_BACKENDS, Make
from facility_file import FacilityFile
from fuse_server import stoppable_storage, why_no_fuse

CHECK = """
import argparse, sys
from beamhub_core import check
parser = argparse.ArgumentParser()
check.add(parser.add_subparsers())
arguments = parser.parse_args()
sys.exit(arguments.run(arguments))
"""


def beamhub_check(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The verb in a process of its own, so that standard output and exit code are the real ones."""
    command = [sys.executable, "-c", CHECK, "check", "--config", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def findings(file: FacilityFile, level: str = "problem") -> list[Finding]:
    return [found for found in check_environment(file.read(), file.path) if found.level == level]


def only_problem(file: FacilityFile) -> Finding:
    [found] = findings(file)
    return found


def test_a_sound_facility_has_no_problem(facility_config: Make) -> None:
    done = beamhub_check(facility_config().path)
    assert (done.returncode, "0 problem(s)" in done.stderr) == (0, True), done


def test_json_is_one_versioned_object(facility_config: Make) -> None:
    file = facility_config()
    answer = json.loads(beamhub_check(file.path, "--json").stdout)
    assert answer["version"] == 1
    assert answer["ok"] is True
    assert answer["config"] == str(file.path)
    assert set(answer) == {"version", "ok", "exit_code", "config", "problems", "warnings", "notes"}


def test_an_invalid_configuration_ends_with_seven_and_all_its_problems(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["hub"]["listen_prot"] = 1
    data["web"].pop("internal_url")
    done = beamhub_check(file.write(data), "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["exit_code"], answer["ok"]) == (7, 7, False)
    assert [problem["path"] for problem in answer["problems"]] == ["hub.listen_prot", "web.internal_url"]
    assert "(did you mean 'listen_port'?)" in beamhub_check(file.path).stdout


def test_a_missing_configuration_ends_with_seven(tmp_path: Path) -> None:
    done = beamhub_check(tmp_path / "facility.yaml")
    assert done.returncode == 7
    assert done.stdout == "problem: (file): cannot be read: No such file or directory\n"


def test_everything_that_is_wrong_is_reported_at_once(facility_config: Make) -> None:
    file = facility_config()
    (file.folder / "secrets" / "proxy").unlink()
    (file.folder / "secrets" / "web-cookie").chmod(0o644)
    (file.folder / "pool").rmdir()
    (file.folder / "policy.yaml").write_text("version: '1'\n")
    (file.folder / "members.csv").unlink()
    (file.folder / "homes").rmdir()
    done = beamhub_check(file.path, "--json")
    paths = {problem["path"] for problem in json.loads(done.stdout)["problems"]}
    assert done.returncode == 1
    assert paths == {
        "hub.proxy.token_file",
        "web.cookie_secret_file",
        "pools[0].root",
        "catalogue.policy_file",
        "catalogue.user_offices[0].members",
        "sessions.homes_folder",
    }


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.chmod(0o640), "mode 0640"),
        (lambda path: path.chmod(0o604), "mode 0604"),
        (lambda path: _write(path, b""), "is empty"),
        (lambda path: _write(path, b" \n"), "is empty"),
        (lambda path: _write(path, b"\xff" * 32), "not plain ASCII"),
        (lambda path: _write(path, b"x" * 20_000), "20000 bytes"),
        (lambda path: _write(path, b"too short"), "64 hexadecimal digits"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), "not a regular file"),
    ],
)
def test_a_secret_that_is_none_is_named_with_a_hint(
    spoil: Callable[[Path], Any], words: str, facility_config: Make
) -> None:
    file = facility_config()
    spoil(file.folder / "secrets" / "crypt-key")
    found = only_problem(file)
    assert found.path == "hub.crypt_key_file"
    assert words in found.message
    assert found.hint


def test_no_content_of_a_secret_is_shown(facility_config: Make) -> None:
    file = facility_config()
    _write(file.folder / "secrets" / "crypt-key", b"hunter2\n")
    done = beamhub_check(file.path)
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_a_state_folder_that_is_a_file_cannot_be_written(facility_config: Make) -> None:
    file = facility_config()
    (file.folder / "sessions").rmdir()
    (file.folder / "sessions").touch()
    found = only_problem(file)
    assert (found.path, "Not a directory" in found.message) == ("sessions.state_folder", True)


def test_a_state_folder_open_to_everybody_is_a_warning(facility_config: Make) -> None:
    file = facility_config()
    (file.folder / "hub").chmod(0o755)
    assert [found.path for found in findings(file, "warning")] == ["hub.state_folder"]


def test_a_state_folder_in_a_pool_is_a_warning(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["sessions"]["homes_folder"] = str(file.folder / "pool" / "homes")
    (file.folder / "pool" / "homes").mkdir(mode=0o700)
    file.write(data)
    [found] = findings(file, "warning")
    assert "lies in pool 'pool'" in found.message


@pytest.mark.skipif(why_no_fuse() is not None, reason=why_no_fuse() or "")
def test_homes_that_hang_are_a_problem_and_hold_nothing_up(facility_config: Make) -> None:
    file = facility_config()
    with stoppable_storage(file.folder / "homes") as storage:
        storage.stop()
        try:
            began = time.monotonic()
            [found] = findings(file, "problem")
            assert time.monotonic() - began < 15
        finally:
            storage.go_on()
    assert found.path == "sessions.homes_folder"
    assert "does not answer since" in found.message


def test_a_template_that_is_missing_or_leads_away_is_named(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    names = {"gone": "gone.ipynb", "away": "../members.csv", "linked": "link.ipynb", "good": "good.ipynb"}
    data["sessions"]["templates"] = [
        {"name": name, "title": name, "technique": "x", "file": path} for name, path in names.items()
    ]
    file.write(data)
    (file.folder / "templates" / "link.ipynb").symlink_to(file.folder / "members.csv")
    (file.folder / "templates" / "good.ipynb").write_text("{}")
    assert [found.path for found in findings(file)] == [
        "sessions.templates[0].file",
        "sessions.templates[1].file",
        "sessions.templates[2].file",
    ]


def test_a_missing_folder_of_a_database_is_named(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["web"]["database_url"] = f"sqlite:///{file.folder}/nowhere/web.sqlite"
    file.write(data)
    assert only_problem(file).path == "web.database_url"


def test_an_unsafe_switch_is_a_warning(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["login"]["providers"][0]["unsafe_allow_http"] = True
    data["web"]["unsafe_clock_offset_file"] = str(file.folder / "offset")
    file.write(data)
    assert [found.path for found in findings(file, "warning")] == [
        "login.providers[0].unsafe_allow_http",
        "web.unsafe_clock_offset_file",
    ]


@pytest.mark.parametrize(
    ("public_url", "warns"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost:8000", False),
        ("http://demo.localhost", False),
        ("http://127.0.0.1.example.org", True),
        ("http://analysis.example.org", True),
        ("http://10.0.0.1", True),
        ("https://analysis.example.org", False),
    ],
)
def test_an_address_without_tls_is_a_warning_unless_it_is_this_machine(
    facility_config: Make, public_url: str, warns: bool
) -> None:
    file = facility_config()
    data = file.copy()
    data["hub"]["public_url"] = public_url
    file.write(data)
    assert ("hub.public_url" in [f.path for f in findings(file, "warning")]) is warns


def test_one_host_name_for_many_people_is_a_warning(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    assert "hub.subdomain_host" not in [f.path for f in findings(file, "warning")]  # one local place
    data["sessions"]["places"][0] |= {"backend": "kubernetes", "kubernetes": PLACES_OF_BACKENDS["kubernetes"]}
    file.write(data)
    (found,) = [f for f in findings(file, "warning") if f.path == "hub.subdomain_host"]
    assert "can act as whoever opens it" in found.message
    data["hub"] |= {"public_url": "https://a.example.org", "subdomain_host": "a.example.org"}
    file.write(data)
    assert "hub.subdomain_host" not in [f.path for f in findings(file, "warning")]


def test_settings_that_are_loaded_last_are_named(facility_config: Make) -> None:
    file = facility_config()
    (file.folder / "jupyterhub_config.d").mkdir()
    (file.folder / "jupyterhub_config.d" / "10-quota.py").touch()
    (file.folder / "jupyterhub_config.d" / "readme.txt").touch()
    notes = [found.path for found in findings(file, "note")]
    assert "jupyterhub_config.d/10-quota.py" in notes
    assert not any("readme" in note for note in notes)


def test_what_the_kernel_does_not_enforce_is_said_plainly(facility_config: Make) -> None:
    file = facility_config()
    said = [found for found in check_environment(file.read(), file.path) if found.path == "sessions.places"]
    enforced = available_abi() >= 6
    assert [found.level for found in said] == ["note" if enforced else "warning"]
    assert ("not enforced" in said[0].message) != enforced


def test_a_facility_without_local_places_says_nothing_of_landlock(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["sessions"]["places"][0] |= {"backend": "kubernetes", "kubernetes": PLACES_OF_BACKENDS["kubernetes"]}
    file.write(data)
    assert all(found.path != "sessions.places" for found in check_environment(file.read(), file.path))
