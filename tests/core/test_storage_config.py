"""What can be declared of storage, what excludes each other, and how `beamhub check` says it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from beamhub_core.check import check_environment
from beamhub_core.check_finding import Finding
from beamhub_core.check_storage import declared
from beamhub_core.config.storage import HomesConfig, PoolConfig, ScratchConfig
from conftest import FacilityFile

Make = Callable[..., FacilityFile]


def pool(**changes: Any) -> PoolConfig:
    return PoolConfig.model_validate({"name": "p", "root": "/p", "target": "/p", **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"propagation": "host_to_container", "recursive_read_only": True, "access": "ro"},
            "propagation and recursive_read_only exclude each other",
        ),
        ({"propagation": "host_to_container"}, "needs access 'ro'"),
    ],
)
def test_modes_that_exclude_each_other_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        pool(**changes)


@pytest.mark.parametrize(
    ("changes", "takes_writes"),
    [({}, True), ({"squash": "root"}, True), ({"squash": "all"}, False), ({"access": "ro"}, False)],
)
def test_a_pool_takes_writes_unless_it_is_declared_otherwise(
    changes: dict[str, Any], takes_writes: bool
) -> None:
    assert pool(**changes).takes_writes == takes_writes


@pytest.mark.parametrize("kind", [HomesConfig, ScratchConfig])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quota_command": ["set-quota"], "quota_gib": 1}, "not an absolute path"),
        ({"quota_command": ["/set-quota"]}, "needs quota_gib"),
    ],
)
def test_a_quota_command_is_absolute_and_has_a_limit(kind: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        kind.model_validate({"folder": "/scratch", **fields} if kind is ScratchConfig else fields)


def test_every_declared_mode_is_said_in_words() -> None:
    said = declared(pool(group_mode="auth_sys", squash="root", recursive_read_only=True, must_be_mount=True))
    for words in ("16 groups", "root is squashed", "engine 25", "must be a mount point"):
        assert words in said
    assert "later mounts" in declared(pool(propagation="host_to_container", access="ro"))


def found(file: FacilityFile, *, live: bool = False) -> list[Finding]:
    return list(check_environment(file.read(), file.path, live=live))


def test_check_says_each_pools_state_and_modes(facility_config: Make) -> None:
    file = facility_config()
    [said] = [one for one in found(file) if one.path == "pools[0]"]
    assert said.level == "note"
    assert said.message.startswith("pool answers; declared: writable where roles allow it")
    [said] = [one for one in found(file, live=True) if one.path == "pools[0]"]
    assert "can be written to" in said.message
    assert list((file.folder / "pool").iterdir()) == []


def test_a_pool_of_an_agents_place_is_no_problem_of_this_machine(facility_config: Make) -> None:
    file = facility_config()
    (file.folder / "pool").rename(file.folder / "elsewhere")
    problem = {("problem", "pools[0].root")}
    assert {(one.level, one.path) for one in found(file)} >= problem
    data = file.copy()
    [place] = data["sessions"]["places"]
    tls = {name: str(file.folder / f"{name}.pem") for name in ("ca_file", "cert_file", "key_file")}
    docker = {"url": "https://node1.example.org:8443", "tls": tls}
    data["sessions"]["places"] = [{**place, "backend": "docker", "docker": docker}]
    file.write(data)
    said = {(one.level, one.path): one.message for one in found(file)}
    assert not problem & set(said)
    words = said["note", "pools[0]"]
    assert "no such folder" in words
    assert f"on the hosts of {place['name']}, by their agents" in words


def test_a_quota_that_is_only_measured_is_said_plainly(facility_config: Make) -> None:
    file = facility_config()
    data = file.copy()
    data["sessions"]["homes"] = {"quota_gib": 5}
    data["sessions"]["scratch"] = {"folder": str(file.folder / "gone")}
    file.write(data)
    by_path = {one.path: one for one in found(file)}
    assert by_path["sessions.homes"].level == "warning"
    assert "measured and told, not enforced" in by_path["sessions.homes"].message
    assert by_path["sessions.scratch.folder"].message.endswith("no such folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system read-only")
def test_a_pool_that_became_read_only_is_found_by_check_live(facility_config: Make) -> None:
    file = facility_config()
    root = Path(file.folder / "pool")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", root], check=True)
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "beamhub_core.command",
                "check",
                "--live",
                "--json",
                "--config",
                file.path,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["umount", root], check=True)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    [problem] = [one for one in answer["problems"] if one["path"] == "pools[0].root"]
    assert problem["message"].endswith(": read-only")
    assert "access: ro" in problem["hint"]
