"""The numeric identities of accounts that the facility gave none: given once, kept, never twice.

Stored and never recomputed: two accounts whose hashes meet must not share a number, nor may a number pass to
another account when the first one is gone, because files of it may lie anywhere.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from beamhub_core.errors import BeamhubError

FILE_NAME = "unmapped-uids.sqlite"
N_UNMAPPED_UIDS = 1_000_000
LOCK_TIMEOUT_S = 10.0


class NoNumber(BeamhubError):
    """An account can be given no numeric identity."""

    def __init__(self, account: str, reason: str) -> None:
        super().__init__(account, reason)
        self.account, self.reason = account, reason

    def __str__(self) -> str:
        return f"The account {self.account} can be given no numeric identity: {self.reason}."


class UidRegistry:
    """The numbers given out, in a file of the platform's state. Safe for several processes and threads."""

    def __init__(self, folder: Path, first: int, *, size: int = N_UNMAPPED_UIDS) -> None:
        self._file, self._first, self._size = folder / FILE_NAME, first, size

    def uid_of(self, account: str) -> int:
        """The number of an account, the same at each call, and of no other account ever.

        Raises
        ------
        NoNumber
            If all are given out, or the file cannot be used.
        """
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=LOCK_TIMEOUT_S, isolation_level=None)) as file:
                self._file.chmod(0o600)
                file.execute("PRAGMA synchronous=FULL")  # a number that was used is never forgotten
                file.execute(
                    "CREATE TABLE IF NOT EXISTS numbers "
                    "(uid INTEGER PRIMARY KEY, account TEXT NOT NULL UNIQUE) STRICT"
                )
                return self._known(file, account) or self._given(file, account)
        except (sqlite3.Error, OSError) as error:
            raise NoNumber(account, f"the registry cannot be used ({type(error).__name__})") from error

    def _known(self, file: sqlite3.Connection, account: str) -> int | None:
        row = file.execute("SELECT uid FROM numbers WHERE account = ?", (account,)).fetchone()
        return int(row[0]) if row is not None else None

    def _given(self, file: sqlite3.Connection, account: str) -> int:
        file.execute("BEGIN IMMEDIATE")  # one process at a time finds a free number
        try:
            uid = self._known(file, account)
            if uid is None:
                uid = self._free(file, account)
                file.execute("INSERT INTO numbers (uid, account) VALUES (?, ?)", (uid, account))
            file.execute("COMMIT")
            return uid
        except BaseException:
            file.execute("ROLLBACK")
            raise

    def _free(self, file: sqlite3.Connection, account: str) -> int:
        """The free number nearest above the account's hash: if the file is lost, most get theirs again."""
        last = self._first + self._size - 1
        start = (
            self._first + int.from_bytes(hashlib.sha256(account.encode()).digest()[:8], "big") % self._size
        )
        for low, high in ((start, last), (self._first, start - 1)):
            free = _first_gap(file, low, high)
            if free is not None:
                return free
        raise NoNumber(account, f"all {self._size} numbers are given out")


def _first_gap(file: sqlite3.Connection, low: int, high: int) -> int | None:
    """The lowest number of a range that no row has."""
    free = low
    for (uid,) in file.execute("SELECT uid FROM numbers WHERE uid BETWEEN ? AND ? ORDER BY uid", (low, high)):
        if uid != free:
            break
        free += 1
    return free if free <= high else None
