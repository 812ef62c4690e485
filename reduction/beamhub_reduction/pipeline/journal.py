"""A folder with the finished units of a reduction: what was done stays done when a scheduler is lost.

`<journal>/<key>/` holds one file per unit and a description; the key is a digest of everything that decides
the numbers: the work, its parameters, every unit with the identity of its file, the version of the software.
Another input has another key, so its entries are never met. Files appear whole: hidden first, then renamed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from beamhub_reduction.pipeline.amount import amount_of
from beamhub_reduction.pipeline.digest import content_digest
from beamhub_reduction.pipeline.errors import EntryInvalid, JournalUnusable
from beamhub_reduction.pipeline.part_codec import PartUndecodable, decode_part, encode_part

FORMAT = 1
DESCRIPTION = "reduction.json"
MAX_ENTRY_BYTES = 8 * 1024**3
MAX_DESCRIPTION_BYTES = 65_536
MAX_LISTED = 1000
_ENTRY = re.compile(r"unit-(\d{8})\.part")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a worker needs to keep the part of one unit by itself."""

    folder: str
    key: str
    number: int
    where: str

    def keep(self, part: Any) -> bool:
        """Write the part; False where this machine cannot (the client then tries)."""
        return write_entry(self, part) is None


def write_entry(ticket: Ticket, part: Any) -> str | None:
    """Write one entry, whole or not at all; why it could not be written, or None."""
    path = Path(ticket.folder) / f"unit-{ticket.number:08d}.part"
    extra = {"format": FORMAT, "key": ticket.key, "number": ticket.number, "range": ticket.where}
    try:
        _write_whole(path, encode_part(part, extra))
    except TypeError as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _write_whole(path: Path, content: bytes) -> None:
    """Hidden, then renamed. Not synced: what a power cut damages fails its checksum and is done again."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        hidden.replace(path)
    except OSError:
        with suppress(OSError):
            hidden.unlink()
        raise


class Journal:
    """The entries of one reduction. Safe for one client at a time; two that write the same part agree."""

    def __init__(self, folder: Path, key: str, classes: Callable[[str], type | None]) -> None:
        """Use `open_journal`."""
        self.folder, self.key, self._classes = folder, key, classes

    def numbers(self, n_units: int) -> set[int]:
        """Numbers of the units that have an entry; whether it is whole shows when it is read."""
        found = (_ENTRY.fullmatch(entry.name) for entry in os.scandir(self.folder))
        return {n for match in found if match and (n := int(match[1])) < n_units}

    def ticket(self, number: int, unit: Any) -> Ticket:
        """What a worker needs to keep this unit's part."""
        return Ticket(str(self.folder), self.key, number, amount_of(unit).where)

    def read(self, number: int) -> Any:
        """The part of a unit.

        Raises
        ------
        EntryInvalid
            If the entry is cut, changed, of another reduction, or of classes that no part is made of.
        """
        path = self.folder / f"unit-{number:08d}.part"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                if size > MAX_ENTRY_BYTES:
                    raise EntryInvalid(str(path), f"{size} bytes are too many")
                part, told = decode_part(file.read(size), self._classes)
        except OSError as error:
            raise EntryInvalid(str(path), error.strerror or type(error).__name__) from error
        except PartUndecodable as error:
            raise EntryInvalid(str(path), str(error)) from error
        if (told.get("format"), told.get("key"), told.get("number")) != (FORMAT, self.key, number):
            raise EntryInvalid(str(path), "it belongs to another reduction or another part")
        return part


def journal_key(work: Callable[..., Any], units: Sequence[Any], task: Any) -> str:
    """The digest of everything that decides the parts."""
    name = f"{work.__module__}:{work.__qualname__}"
    return content_digest(FORMAT, software_version(), name, task, tuple(units))


def software_version() -> str:
    """The version of beamhub; 'unknown' when it runs from a folder."""
    try:
        return version("beamhub")
    except PackageNotFoundError:
        return "unknown"


def open_journal(
    folder: Path, work: Callable[..., Any], units: Sequence[Any], task: Any
) -> tuple[Journal, tuple[str, ...]]:
    """(the journal of this reduction in a folder, which is made, and what a person should know of it).

    Raises
    ------
    JournalUnusable
        If the folder cannot be made or written.
    """
    key, name = journal_key(work, units, task), f"{work.__module__}:{work.__qualname__}"
    own = folder.expanduser().absolute() / key[:32]
    try:
        notes = _others(own.parent, name, key) if own.parent.exists() else ()
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = {
            "format": FORMAT,
            "key": key,
            "work": name,
            "software": software_version(),
            "n_units": len(units),
            "made_at": datetime.now(UTC).isoformat(),
        }
        if not (own / DESCRIPTION).exists():
            _write_whole(own / DESCRIPTION, json.dumps(facts, indent=1).encode())
    except OSError as error:
        raise JournalUnusable(str(folder), error.strerror or type(error).__name__) from error
    return Journal(own, key, classes_of(work)), notes


def _others(folder: Path, work: str, key: str) -> tuple[str, ...]:
    """A note when the folder knows this work, but never with these inputs and parameters."""
    n_others = 0
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)[:MAX_LISTED]:
        told = _read_description(Path(entry.path) / DESCRIPTION)
        if told.get("key") == key:
            return ()
        n_others += told.get("work") == work
    if not n_others:
        return ()
    return (
        f"the journal {folder} holds {n_others} other reduction(s) of this kind, none of these inputs, "
        "parameters and software: nothing of it is used",
    )


def _read_description(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        with path.open("rb") as file:
            told = json.loads(file.read(MAX_DESCRIPTION_BYTES))
        if isinstance(told, dict):
            return told
    return {}


def classes_of(work: Callable[..., Any]) -> Callable[[str], type | None]:
    """The dataclasses that a part of this work may be made of: of this room or of the work's own module.

    A class counts only when its module is loaded already; a journal imports nothing.
    """
    room = __name__.partition(".")[0] + "."

    def find(name: str) -> type | None:
        module, _, qualified = name.partition(":")
        if not (module == work.__module__ or module.startswith(room)) or "." in qualified:
            return None
        cls = getattr(sys.modules.get(module), qualified, None)
        return cls if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module else None

    return find
