"""Homes, scratch and processed folders on a real host: whose they are, their modes, quotas and storage."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import FacilityConfig
from beamhub_core.session import SessionPlan, SessionRequest
from beamhub_spawners.folder_work import FolderUnfit, Identity, do_steps
from beamhub_spawners.host_folders import check_and_ensure_folders
from beamhub_spawners.plan import session_plan
from contracts.spawner_parts import (
    ACCOUNT,
    EXPLAIN,
    GRANTED_PID,
    OCCASION,
    PLACE,
    facility_fields,
    granted_answer,
    make_facility,
    principal,
)
from fuse_server import stoppable_storage, why_no_fuse

UID, GID = 41_017, 41_018
needs_fuse = pytest.mark.skipif(why_no_fuse() is not None, reason=why_no_fuse() or "")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
Change = Callable[[dict[str, Any]], None]


def made(
    folder: Path, change: Change = lambda fields: None, **person: Any
) -> tuple[FacilityConfig, SessionPlan]:
    """A facility on disk, and a plan for its Docker place."""
    make_facility(folder)
    folder.chmod(0o755)
    fields = facility_fields(folder, hub_url="http://hub", web_url="http://web")
    for place in fields["sessions"]["places"]:
        place.update(backend="docker", docker={"url": "unix:///x", "unsafe_direct_socket": True})
    change(fields)
    config = FacilityConfig.model_validate(fields)
    plan = session_plan(
        granted_answer(),
        SessionRequest(datasets=(GRANTED_PID,)),
        config,
        principal(**person),
        (PLACE.model_copy(update={"backend": "docker"}), EXPLAIN),
        OCCASION,
    )
    return config, plan


def facts_of(folder: Path) -> tuple[int, int, int]:
    found = folder.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o7777


@needs_root
def test_before_the_first_start_home_scratch_and_processed_are_made_for_the_person(tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = tmp_path / "set-quota"
    program.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    program.chmod(0o755)

    def change(fields: dict[str, Any]) -> None:
        quota = {"quota_gib": 2, "quota_command": [str(program), "-x"]}
        fields["sessions"]["homes"] = quota
        fields["sessions"]["scratch"] = {"folder": str(tmp_path / "scratch"), **quota}

    (tmp_path / "scratch").mkdir()
    config, plan = made(tmp_path, change, uid=UID, gid=GID, gids=(GID + 1,))
    os.chown(tmp_path / "pools/hall-a/MA-5101", 0, GID + 1)
    check_and_ensure_folders(plan, config)
    home, scratch = tmp_path / "homes" / ACCOUNT, tmp_path / "scratch" / ACCOUNT
    assert facts_of(home) == facts_of(scratch) == facts_of(home / "notebooks") == (UID, GID, 0o700)
    # The proposal's group, which the next member of the proposal is in, too.
    assert facts_of(tmp_path / "pools/hall-a/MA-5101/processed") == (UID, GID + 1, 0o2770)
    assert said.read_text().splitlines() == [f"-x {UID} {path} {2 * 2**30}" for path in (home, scratch)]

    (home / "note").touch()
    check_and_ensure_folders(plan, config)  # again: nothing is lost
    assert (home / "note").exists()


@needs_root
@pytest.mark.parametrize("code", [3, None])
def test_a_quota_that_cannot_be_set_stops_the_start(code: int | None, tmp_path: Path) -> None:
    program = tmp_path / "set-quota"
    if code is not None:
        program.write_text(f"#!/bin/sh\nexit {code}\n")
        program.chmod(0o755)

    def change(fields: dict[str, Any]) -> None:
        fields["sessions"]["homes"] = {"quota_gib": 2, "quota_command": [str(program)]}

    config, plan = made(tmp_path, change, uid=UID, gid=GID)
    with pytest.raises(FolderUnfit, match="its quota could not be set") as caught:
        check_and_ensure_folders(plan, config)
    assert caught.value.path == ACCOUNT


@needs_root
def test_a_home_of_another_number_is_never_used(tmp_path: Path) -> None:
    config, plan = made(tmp_path, uid=UID, gid=GID)
    home = tmp_path / "homes" / ACCOUNT
    home.mkdir(parents=True)
    os.chown(home, UID + 5, GID)
    with pytest.raises(FolderUnfit, match=f"belongs to another numeric identity .{UID + 5}."):
        check_and_ensure_folders(plan, config)


@needs_root
def test_a_home_that_a_killed_start_left_is_given_to_the_person(tmp_path: Path) -> None:
    config, plan = made(tmp_path, uid=UID, gid=GID)
    home = tmp_path / "homes" / ACCOUNT
    home.mkdir(parents=True, mode=0o700)
    check_and_ensure_folders(plan, config)
    assert facts_of(home) == (UID, GID, 0o700)


@needs_root
def test_an_account_without_a_number_has_its_home_apart(tmp_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["sessions"]["homes"] = {"unmapped_folder": str(tmp_path / "guests")}

    config, plan = made(tmp_path, change, gids=(5, 6))
    check_and_ensure_folders(plan, config)
    assert plan.uid == OCCASION.facts.unmapped_uid
    assert plan.gids == ()
    assert facts_of(tmp_path / "guests" / ACCOUNT) == (plan.uid, plan.gid, 0o700)
    assert not (tmp_path / "homes").exists()


def test_a_source_outside_the_configured_folders_is_refused(tmp_path: Path) -> None:
    config, plan = made(tmp_path)
    [home] = [mount for mount in plan.mounts if mount.purpose == "home"]
    for forged in (
        home.model_copy(update={"source": "/etc"}),
        home.model_copy(update={"source": str(tmp_path / "secrets"), "pool": "hall-a", "purpose": "raw"}),
    ):
        edited = plan.model_copy(update={"mounts": (forged,)})
        with pytest.raises(FolderUnfit, match="lies in no configured storage pool"):
            check_and_ensure_folders(edited, config)


def test_a_writable_mount_of_a_pool_that_takes_no_writes_is_refused(tmp_path: Path) -> None:
    _, plan = made(tmp_path)
    config, read_only = made(tmp_path, lambda fields: fields["pools"][0].update(access="ro"))
    assert not [mount for mount in read_only.mounts if mount.purpose == "processed"]
    assert "cannot be written here: storage pool hall-a is mounted read-only" in read_only.explain.notes[0]
    with pytest.raises(FolderUnfit, match="storage pool hall-a takes no writes"):
        check_and_ensure_folders(plan, config)


@needs_root
def test_a_link_where_a_folder_was_is_refused_at_mount_time(tmp_path: Path) -> None:
    config, plan = made(tmp_path, uid=UID, gid=GID)
    raw = tmp_path / "pools/hall-a/MA-5101/raw"
    (raw / "detector").rename(raw / "real")
    (raw / "detector").symlink_to("real")
    with pytest.raises(FolderUnfit, match="symbolic link") as caught:
        check_and_ensure_folders(plan, config)
    assert caught.value.path == "MA-5101/raw/detector"


@needs_fuse
def test_on_a_root_squashed_pool_folders_are_made_as_the_person(open_folder: Path) -> None:
    """The FUSE server takes nobody but the person, so the host's root is refused, as on such an export."""
    root = open_folder / "squashed"
    root.mkdir()
    person = Identity(UID, UID)
    with stoppable_storage(root, UID):
        ensure = {"do": "ensure", "root": str(root), "path": "P1", "mode": 0o2770, "groups": [UID]}
        with pytest.raises(FolderUnfit, match="Permission denied"):
            do_steps([ensure])
        assert do_steps([], [ensure], as_=person) == [True]
        assert do_steps([], [{"do": "check", "root": str(root), "path": "P1"}], as_=person) == [None]
        enter = {"do": "enter", "root": str(root), "path": "P1", "pool": "squashed"}
        with pytest.raises(FolderUnfit, match="storage pool squashed is root-squashed; let others"):
            do_steps([enter])


@needs_fuse
def test_storage_that_hangs_at_mount_time_costs_its_limit_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beamhub_spawners.folder_work.MAX_CHILDREN", 3)
    with stoppable_storage(tmp_path) as storage:
        do_steps([{"do": "ensure", "root": str(tmp_path), "path": "P1", "mode": 0o700}])
        storage.stop()
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(FolderUnfit, match="its storage does not answer"):
                do_steps([{"do": "check", "root": str(tmp_path), "path": "P1"}], limit_s=1.0)
        assert time.monotonic() - began < 5
        storage.go_on()
        do_steps([{"do": "check", "root": str(tmp_path), "path": "P1"}])


@needs_root
def test_only_folders_that_are_closed_to_others_need_their_group(tmp_path: Path) -> None:
    for i, (name, mode, gid) in enumerate((("P1", 0o750, 7001), ("open", 0o755, 7002), ("raw", 0o770, 7003))):
        folder = tmp_path.joinpath(*("P1", "open", "raw")[: i + 1])
        folder.mkdir(mode=mode)
        folder.chmod(mode)
        os.chown(folder, 0, gid)
        assert folder.name == name
    folders = [[str(tmp_path), "P1/open/raw"], [str(tmp_path), "P1/open"], [str(tmp_path), "P1/gone/x"]]
    step = {"do": "closed_groups", "folders": folders, "uid": UID}
    assert do_steps([step]) == [[7001, 7003]]
    assert do_steps([{**step, "uid": 0}]) == [[]]
    assert do_steps([{**step, "folders": [[str(tmp_path), "elsewhere/x"]]}]) == [None]


def test_a_home_is_measured_by_a_walk_that_ends(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / "home" / str(i)).mkdir(parents=True)
        (tmp_path / "home" / str(i) / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "home" / "away").symlink_to("/")
    step = {"do": "usage", "root": str(tmp_path), "path": "home", "max_entries": 1000, "limit_s": 10.0}
    [[n_bytes, n_entries, is_complete]] = do_steps([step])
    assert (n_entries, is_complete) == (21, True)
    assert n_bytes >= 100_000
    [[_, n_entries, is_complete]] = do_steps([{**step, "max_entries": 5}])
    assert (n_entries, is_complete) == (5, False)


@needs_root
@pytest.mark.parametrize("kind", ["bytes", "files", "quota-free"])
def test_a_home_that_is_full_says_so_on_a_real_file_system(kind: str, open_folder: Path) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k,nr_inodes=20,mode=777", "tmpfs", open_folder], check=True
    )
    try:
        if kind != "quota-free":
            with pytest.raises(OSError, match="No space"):
                for i in range(30):
                    (open_folder / str(i)).write_bytes(b"x" * (100_000 if kind == "bytes" else 0))
        reason = {"bytes": "no space is left", "files": "no more files can be made"}.get(kind)
        enter, look = [{"do": "stand", "home": str(open_folder)}], [{"do": "full", "home": str(open_folder)}]
        assert do_steps(enter, look, as_=Identity(UID, GID)) == [True, reason]
    finally:
        subprocess.run(["umount", open_folder], check=True)
