"""Paths below a pool's root, with links put where they hurt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beamhub_spawners.paths import (
    PathEscapes,
    check_beneath,
    ensure_folder_beneath,
    opened_beneath,
    walk_beneath,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "pool"
    (root / "P1" / "raw").mkdir(parents=True)
    (root / "P1" / "raw" / "scan.h5").write_text("scan")
    (root / "P1" / "away").symlink_to(tmp_path / "outside")
    (root / "P1" / "inside").symlink_to("raw")
    (root / "P1" / "up").symlink_to("../..")
    return root


@pytest.mark.parametrize("path", ["P1", "P1/raw", "P1/raw/scan.h5"])
def test_a_plain_path_opens(root: Path, path: str) -> None:
    with opened_beneath(root, path) as fd:
        assert os.fstat(fd).st_ino == (root / path).stat().st_ino


@pytest.mark.parametrize(
    "path",
    [
        "P1/away",
        "P1/away/secret",
        "P1/inside",
        "P1/inside/scan.h5",
        "P1/up/outside",
        "P1/missing",
        "P1/raw/scan.h5/below",
        "../outside",
        "P1/../../outside",
        "/etc",
        "",
        "P1/\0",
    ],
)
def test_links_and_ways_up_do_not_open(root: Path, path: str) -> None:
    with pytest.raises(PathEscapes) as caught:
        check_beneath(root, path)
    assert caught.value.path == path


@pytest.mark.parametrize("path", ["P1/away/secret", "P1/inside/scan.h5", "P1/up/outside"])
def test_the_walk_without_openat2_refuses_links_on_the_way_too(root: Path, path: str) -> None:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="Not a directory"):
            walk_beneath(root_fd, tuple(path.split("/")))
    finally:
        os.close(root_fd)


def test_a_root_that_is_a_link_is_configuration(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to(root)
    check_beneath(tmp_path / "mounted", "P1/raw")


def test_a_folder_is_made_once_with_its_mode(root: Path) -> None:
    assert ensure_folder_beneath(root, "P1/processed", mode=0o770)
    assert (root / "P1" / "processed").stat().st_mode & 0o777 == 0o770
    assert not ensure_folder_beneath(root, "P1/processed", mode=0o700)


@pytest.mark.parametrize("path", ["P1/away/processed", "P1/away", "P2/processed"])
def test_no_folder_is_made_through_a_link_or_without_its_parent(root: Path, path: str) -> None:
    with pytest.raises(PathEscapes):
        ensure_folder_beneath(root, path, mode=0o770)
    assert not (root.parent / "outside" / "processed").exists()
