"""Scratch folders: what expires, and what never does."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from beamhub_core.clock import utc_now
from beamhub_spawners.scratch_lifetime import remove_expired
from contracts.spawner_parts import ACCOUNT

LIFETIME = timedelta(days=30)


def test_only_what_an_account_did_not_use_for_a_lifetime_is_removed(tmp_path: Path) -> None:
    for name in (
        f"scratch/{ACCOUNT}/deep/old",
        f"scratch/{ACCOUNT}/read",
        "scratch/other/old",
        "outside/old",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    scratch = tmp_path / "scratch"
    (scratch / ACCOUNT / "away").symlink_to(tmp_path / "outside")
    (scratch / ("u-" + "b" * 26)).symlink_to(tmp_path / "outside")
    later = utc_now() + LIFETIME + timedelta(days=1)
    read_then = later - timedelta(days=2)
    os.utime(scratch / ACCOUNT / "read", (read_then.timestamp(), 0))

    assert remove_expired(scratch, LIFETIME, utc_now(), dry_run=False).n_files == 0
    assert remove_expired(scratch, LIFETIME, later, dry_run=True).n_files == 1
    assert (scratch / ACCOUNT / "deep/old").exists()
    assert remove_expired(scratch, LIFETIME, later, dry_run=False).n_files == 1
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["outside/old", "scratch/other/old", f"scratch/{ACCOUNT}/read"]
