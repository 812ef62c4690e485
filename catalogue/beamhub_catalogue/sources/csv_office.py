"""A user office that is CSV files: `proposals`, `members` and, where it has them, `staff`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

from beamhub_catalogue.sources.contract import SourceBroken, SourceProblem, SourceReading
from beamhub_catalogue.sources.tables import (
    MEMBER_COLUMNS,
    PROPOSAL_COLUMNS,
    STAFF_COLUMNS,
    Row,
    Table,
    reading_of,
    unfit_fields,
)
from beamhub_core.config.catalogue import CsvOfficeConfig

SHORT_PROPOSAL_COLUMNS = PROPOSAL_COLUMNS[:-1]
"""The header of an office that knows no access routes."""
MAX_FILE_BYTES = 128_000_000
POLL_INTERVAL_S = 60.0


class CsvUserOffice:
    """Proposals, members and staff from UTF-8 CSV files with a header row.

    A file that is not whole (wrong header, a row with another number of fields, an open quote, a last row
    without a line break) makes the whole reading fail, so that the last good state stays. What is wrong in
    one row is judged by `beamhub_catalogue.sources.tables`.
    """

    kind: Literal["csv"] = "csv"
    poll_interval_s = POLL_INTERVAL_S

    def __init__(self, config: CsvOfficeConfig) -> None:
        self._config = config
        tables = ((config.proposals, PROPOSAL_COLUMNS), (config.members, MEMBER_COLUMNS))
        self._files = (*tables, *([(config.staff, STAFF_COLUMNS)] if config.staff else []))

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self._config.name

    def resume(self, fingerprint: str) -> None:
        """Nothing: the files say by themselves whether they are those of that state."""

    def poll(self) -> bool:
        """Whether the files are there."""
        return all(path.is_file() for path, _ in self._files)

    def fingerprint(self) -> str:
        """Size, times and inode of the files."""
        return ";".join(_fingerprint(path) for path, _ in self._files)

    def read(self) -> SourceReading:
        """All proposals, members and staff; see the class on what fails and what is reported."""
        tables = [
            Table(path.name, "line", _read_rows(self.name, path, columns)) for path, columns in self._files
        ]
        return reading_of(*tables, *([Table("staff", "line")] if len(tables) == 2 else []))


def _fingerprint(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        return f"missing:{error.errno}"
    # The time of change sees what the time of the content does not: a file that became readable.
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"


def _broken(source: str, path: Path, line: int | None, reason: str) -> SourceBroken:
    return SourceBroken(source, (SourceProblem(path.name, line, reason),))


def _read_text(source: str, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # to open a fifo would wait for ever
            raise _broken(source, path, None, "is not a file")
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise _broken(source, path, None, f"is larger than {MAX_FILE_BYTES} bytes")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise _broken(source, path, None, error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _broken(source, path, line, "is not UTF-8") from error
    if text and not text.endswith(("\n", "\r")):
        line = text.count("\n") + 1
        raise _broken(source, path, line, "the last row has no line break: was the file cut short?")
    return text


def _read_rows(source: str, path: Path, columns: tuple[str, ...]) -> list[Row]:
    reader = csv.reader(io.StringIO(_read_text(source, path), newline=""), strict=True)
    rows: list[Row] = []
    line = 1
    try:
        header = next(reader, None)
        named = tuple(cell.strip() for cell in header or ())
        if named != columns and (columns != PROPOSAL_COLUMNS or named != SHORT_PROPOSAL_COLUMNS):
            raise _broken(source, path, 1, f"the header must be: {','.join(columns)}")
        while True:
            line = reader.line_num + 1  # where a row begins; a quoted line break makes it many lines long
            cells = next(reader, None)
            if cells is None:
                return rows
            if not cells:
                continue
            if len(cells) != len(named):
                raise _broken(source, path, line, f"the row has {len(cells)} fields, not {len(named)}")
            if unfit := unfit_fields(cells):
                raise _broken(source, path, line, unfit)
            rows.append((line, dict(zip(named, cells, strict=True))))
    except csv.Error as error:
        raise _broken(source, path, line, f"is not CSV: {error}") from error
