"""Pools that answer, that do not, and that are not what they must be; each with real file systems."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config.storage import PoolConfig
from beamhub_core.pool_health import Folder, PoolState, PoolWatch, pool_folder, pool_states
from fuse_server import stoppable_storage, why_no_fuse

needs_fuse = pytest.mark.skipif(why_no_fuse() is not None, reason=why_no_fuse() or "")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@pytest.fixture
def watch() -> Iterator[PoolWatch]:
    watch = PoolWatch(limit_s=3.0, max_age_s=0.0)
    yield watch
    watch.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB and 8 files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=8", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def pool(root: Path, **changes: Any) -> PoolConfig:
    return PoolConfig.model_validate({"name": "p", "root": root, "target": root, **changes})


def state_of(watch: PoolWatch, root: Path, **changes: Any) -> PoolState:
    return watch.states([pool_folder(pool(root, **changes))])["p"]


def test_a_pool_that_answers_is_healthy_and_nothing_stays_in_it(watch: PoolWatch, tmp_path: Path) -> None:
    state = state_of(watch, tmp_path)
    assert (state.is_readable, state.is_writable, state.reason) == (True, True, "")
    assert list(tmp_path.iterdir()) == []
    assert PoolState.model_validate_json(state.model_dump_json()) == state
    assert watch.n_children() == 0


def test_a_pool_that_takes_no_writes_is_not_written_to(watch: PoolWatch, tmp_path: Path) -> None:
    for changes in ({"access": "ro"}, {"squash": "all"}):
        assert pool_folder(pool(tmp_path, **changes)).demands == ()
        state = state_of(watch, tmp_path, **changes)
        assert (state.is_readable, state.is_writable, state.reason) == (True, False, "")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("gone", {}, "no such folder"),
        ("file", {}, "is not a folder"),
        ("folder", {"must_be_mount": True}, "is not a mount point although it must be"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(
    name: str, changes: dict[str, Any], reason: str, watch: PoolWatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    state = state_of(watch, tmp_path / name, **changes)
    assert (state.is_readable, state.reason) == (False, reason)


@needs_root
def test_full_disks_by_bytes_and_by_files_are_named_and_stay_writable(
    watch: PoolWatch, small_disk: Path
) -> None:
    assert state_of(watch, small_disk, must_be_mount=True).reason == ""
    with pytest.raises(OSError, match="No space"):
        (small_disk / "big").write_bytes(b"x" * 100_000)
    state = state_of(watch, small_disk)
    assert (state.is_readable, state.is_writable, state.is_full, state.reason) == (True, True, True, "full")
    (small_disk / "big").unlink()
    with pytest.raises(OSError, match="No space"):
        for i in range(9):
            (small_disk / str(i)).touch()
    assert state_of(watch, small_disk).reason == "full (no more files can be made)"


@needs_root
def test_a_read_only_mount_can_be_read_and_not_written(watch: PoolWatch, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    state = state_of(watch, small_disk)
    assert (state.is_readable, state.is_writable, state.reason) == (True, False, "read-only")


@needs_root
def test_a_writable_mount_below_a_pool_declared_read_only_is_a_fault(
    watch: PoolWatch, small_disk: Path
) -> None:
    automounted = {"access": "ro", "propagation": "host_to_container"}
    state = state_of(watch, small_disk.parent, **automounted)
    assert (state.is_readable, "(disk)" in state.reason) == (False, True)
    subprocess.run(["mount", "-o", "remount,ro,bind", small_disk], check=True)
    assert state_of(watch, small_disk.parent, **automounted).reason == ""


@needs_fuse
def test_a_hung_pool_is_found_in_time_answered_at_once_and_forgotten_when_it_answers(tmp_path: Path) -> None:
    hung, fine = tmp_path / "hung", tmp_path / "fine"
    hung.mkdir(), fine.mkdir()
    watch = PoolWatch(limit_s=3.0, max_age_s=0.0)
    folders = [Folder("hung", str(hung)), Folder("fine", str(fine))]
    with stoppable_storage(hung) as storage:
        assert all(state.is_readable for state in watch.states(folders).values())
        storage.stop()
        began = time.monotonic()
        states = watch.states(folders)
        assert time.monotonic() - began < 5
        assert states["fine"].is_readable
        assert not states["hung"].is_readable
        assert states["hung"].reason.startswith("does not answer since ")

        began = time.monotonic()
        for _ in range(10):
            assert not watch.states(folders)["hung"].is_readable
        assert time.monotonic() - began < 8  # ten looks at the other one, none at this one
        assert watch.n_children() <= 1

        storage.go_on()
        for known in watch._known.values():
            known.next_try = 0.0  # instead of waiting for the pause to pass
        deadline = time.monotonic() + 10
        while not (state := watch.states(folders)["hung"]).is_readable:
            assert time.monotonic() < deadline, state
        assert state.reason == ""
    watch.close()
    assert watch.n_children() == 0


@needs_fuse
def test_many_callers_of_a_hung_pool_make_one_child(tmp_path: Path) -> None:
    watch = PoolWatch(limit_s=3.0, max_age_s=0.0)
    with stoppable_storage(tmp_path) as storage:
        storage.stop()
        said: list[PoolState] = []
        callers = [
            threading.Thread(target=lambda: said.append(watch.states([Folder("p", str(tmp_path))])["p"]))
            for _ in range(8)
        ]
        began = time.monotonic()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
        assert time.monotonic() - began < 5
        assert [state.is_readable for state in said] == [False] * 8
        assert watch.n_children() <= 1
    watch.close()


def test_the_states_of_configured_pools_come_by_name(tmp_path: Path) -> None:
    assert pool_states([pool(tmp_path), pool(tmp_path, name="q")]).keys() == {"p", "q"}
