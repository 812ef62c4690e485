"""Which process is which session: a file that the session's own launcher writes.

A process is named by its number *and* start time, since numbers are used again; the pair is also
what a restarted hub, which is no parent of the process, recognises it by.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from beamhub_core.word import Word
from beamhub_spawners.processes import started_at

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class ProcessFile(Word):
    """One session's process."""

    plan_id: str
    plan_hash: str
    account: str
    server_name: str
    url: str
    token_digest: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class SessionFolder:
    """Where one session's files lie."""

    top: Path

    @property
    def view(self) -> Path:
        """The root folder of the server: links, see `session_view`."""
        return self.top / "session"

    @property
    def tmp(self) -> Path:
        """The session's own temporary folder."""
        return self.top / "tmp"

    @property
    def config(self) -> Path:
        """Jupyter configuration of this server."""
        return self.top / "config"

    @property
    def session_file(self) -> Path:
        """`SessionInfo`, for the session to read."""
        return self.top / "session.json"

    @property
    def launch_file(self) -> Path:
        """What the launcher is told."""
        return self.top / "launch.json"

    @property
    def process_file(self) -> Path:
        """What the launcher leaves for the hub."""
        return self.top / "process.json"

    @property
    def log_file(self) -> Path:
        """Standard output and error of the server."""
        return self.top / "server.log"


@dataclass(frozen=True, slots=True)
class SessionStore:
    """The state folder of a place's sessions."""

    folder: Path

    def session(self, plan_id: str) -> SessionFolder:
        """The folder of one plan."""
        return SessionFolder(self.folder / plan_id)

    def ensure(self) -> None:
        """Make the store, for its owner only."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        (self.folder / "servers").mkdir(exist_ok=True, mode=FOLDER_MODE)

    def remember(self, account: str, server_name: str, plan_id: str) -> None:
        """Note, before anything starts, which plan a server is made from."""
        self.ensure()
        entry = self._entry(account, server_name)
        partial = entry.with_suffix(".part")
        partial.write_text(plan_id)
        partial.replace(entry)

    def plan_id(self, account: str, server_name: str) -> str | None:
        """The plan a server was made from last."""
        try:
            text = self._entry(account, server_name).read_text().strip()
        except FileNotFoundError:
            return None
        return text if len(text) == 32 and text.isalnum() else None

    def forget(self, account: str, server_name: str) -> None:
        """Drop the note on a server; its files stay until the sweeper or the next start."""
        self._entry(account, server_name).unlink(missing_ok=True)

    def processes(self) -> Iterator[ProcessFile]:
        """Every process file of the store, of live and dead processes."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*/process.json")):
            found = read_process(path)
            if found is not None:
                yield found

    def remove(self, plan_id: str) -> None:
        """Remove a session's files, all but the log."""
        session = self.session(plan_id)
        for path in (session.view, session.tmp, session.config):
            shutil.rmtree(path, ignore_errors=True)
        for path in (session.session_file, session.launch_file, session.process_file):
            path.unlink(missing_ok=True)

    def _entry(self, account: str, server_name: str) -> Path:
        return self.folder / "servers" / sha256(f"{account}\0{server_name}".encode()).hexdigest()[:40]


def write_private(file: Path, text: str) -> None:
    """Write a new file for its owner only, whatever the umask."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as stream:
        stream.write(text)


def read_process(path: Path) -> ProcessFile | None:
    """A process file; None when it is missing or not whole."""
    try:
        return ProcessFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def is_alive(process: ProcessFile) -> bool:
    """Whether the very process still runs; a zombie does not."""
    return started_at(process.pid) == process.started
