"""Remove from the scratch folders what nobody used for longer than they keep it; run by a timer of the host.

`python -m beamhub_spawners.scratch_lifetime --config FILE [--dry-run]`, as root, on a host of the storage.
"""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from beamhub_core.clock import utc_now
from beamhub_core.config import read_config
from beamhub_core.identity import ACCOUNT_PATTERN


@dataclass(frozen=True, slots=True)
class Removed:
    """What one run removed, or would remove."""

    n_files: int
    n_bytes: int


def remove_expired(folder: Path, lifetime: timedelta, now: datetime, *, dry_run: bool) -> Removed:
    """Remove the files of accounts' folders that were neither read nor changed for a lifetime.

    Follows no link and leaves folders, what lies on another file system, and what is no account's. Each
    file is looked at and removed by its folder's descriptor, so a folder that somebody swaps for a link
    meanwhile leads nowhere.
    """
    oldest = (now - lifetime).timestamp()
    n_files = n_bytes = 0
    for account in sorted(folder.iterdir()):
        if not re.fullmatch(ACCOUNT_PATTERN, account.name) or account.is_symlink():
            continue
        for name, found, folder_fd in _files(account):
            # Changed counts beside read and written: a copy keeps the times of its original.
            if max(found.st_atime, found.st_mtime, found.st_ctime) >= oldest:
                continue
            n_files, n_bytes = n_files + 1, n_bytes + found.st_blocks * 512
            if not dry_run:
                os.unlink(name, dir_fd=folder_fd)
    return Removed(n_files, n_bytes)


def _files(account: Path) -> Iterator[tuple[str, os.stat_result, int]]:
    device = account.stat().st_dev
    for _, folders, names, folder_fd in os.fwalk(account, follow_symlinks=False):
        folders[:] = [
            name
            for name in folders
            if os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_dev == device
        ]
        for name in names:
            found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                yield name, found, folder_fd


def main(arguments: list[str] | None = None) -> int:
    """Remove what expired and say how much it was."""
    parser = argparse.ArgumentParser(description="Remove what expired from the scratch folders.")
    parser.add_argument("--config", type=Path, required=True, help="the configuration file")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    asked = parser.parse_args(arguments)
    scratch = read_config(asked.config).sessions.scratch
    if scratch is None or scratch.lifetime_days is None:
        sys.stderr.write("beamhub: sessions.scratch.lifetime_days is not set: nothing expires\n")
        return 0
    lifetime = timedelta(days=scratch.lifetime_days)
    removed = remove_expired(scratch.folder, lifetime, utc_now(), dry_run=asked.dry_run)
    verb = "would be removed" if asked.dry_run else "removed"
    sys.stdout.write(f"{removed.n_files} files, {removed.n_bytes / 2**30:.2f} GiB {verb}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
