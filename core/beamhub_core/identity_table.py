"""Whom a facility knows: accounts with numeric ids, and the table of them that a facility keeps as CSV.

The header is `issuer,subject,account,uid,gid,gids,home_organisation,name`; `gids` are parted by spaces, and
the fields after `account` may be empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from beamhub_core.errors import ConfigInvalid
from beamhub_core.word import Word

MAX_BYTES = 20_000_000
MAX_ROWS = 200_000
MAX_PROBLEMS = 100
MAX_GIDS = 4096
MAX_ID = 2**32 - 2
"""The largest number of a user or group on Linux; the one after it means "none" (chown(2))."""
NOBODY = frozenset((65534, 2**32 - 2))
"""Numbers that stand for nobody in particular: of user namespaces and NFS, and its 32-bit form."""
ACCOUNT = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
HEADER = ["issuer", "subject", "account", "uid", "gid", "gids", "home_organisation", "name"]
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_ACCOUNT = re.compile(ACCOUNT)

Person = tuple[str, str]


class MappedIdentity(Word):
    """Who somebody is at the facility; without numeric ids it is an account alone."""

    account: str = Field(pattern=ACCOUNT)
    uid: int | None = Field(default=None, ge=0, le=MAX_ID)
    gid: int | None = Field(default=None, ge=0, le=MAX_ID)
    gids: tuple[int, ...] = Field(default=(), max_length=MAX_GIDS)
    home_organisation: str | None = Field(default=None, min_length=1, max_length=200)
    display_name: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _has_both_numbers_or_none(self) -> Self:
        if (self.uid is None) != (self.gid is None):
            raise ValueError("uid and gid stand together or not at all")
        if self.uid is None and self.gids:
            raise ValueError("gids need a uid")
        return self


def read_number(text: str) -> int | None:
    """The number of a user or group, as decimal digits alone; None where the text is none."""
    number = int(text) if _NUMBER.fullmatch(text) else None
    return number if number is not None and number <= MAX_ID else None


def read_identity_table(path: Path) -> dict[Person, MappedIdentity]:
    """Everybody in a facility's table, by issuer and subject.

    Several identities may lead to one account, if they agree on its numbers.

    Raises
    ------
    ConfigInvalid
        With every bad line (the first hundred), without their values; then nothing of it counts.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigInvalid(str(path), (f"the file is larger than {MAX_BYTES} bytes",))
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror}",)) from error
    except (UnicodeDecodeError, csv.Error):
        raise ConfigInvalid(str(path), ("is no CSV file in UTF-8",)) from None
    if not rows or rows[0][1] != HEADER:
        raise ConfigInvalid(str(path), (f"line 1: the header must be '{','.join(HEADER)}'",))
    if len(rows) > MAX_ROWS:
        raise ConfigInvalid(str(path), (f"the file has more than {MAX_ROWS} lines",))
    table = _Table()
    for line, row in rows[1:]:
        if row:
            table.add(line, row)
    if table.problems:
        shown = table.problems[:MAX_PROBLEMS]
        more = len(table.problems) - len(shown)
        raise ConfigInvalid(str(path), (*shown, *([f"and {more} more"] if more else [])))
    return table.people


class _Table:
    """Rows as they are read, with the lines that said something first."""

    def __init__(self) -> None:
        self.people: dict[Person, MappedIdentity] = {}
        self.problems: list[str] = []
        self._person_lines: dict[Person, int] = {}
        self._accounts: dict[str, tuple[int, MappedIdentity]] = {}
        self._uids: dict[int, tuple[int, str]] = {}

    def add(self, line: int, row: list[str]) -> None:
        """Take a row, or note what is wrong with it."""
        problem = _fault(row)
        if problem is None:
            issuer, subject, account, uid, gid, gids, home_organisation, name = row
            mapped = MappedIdentity(
                account=account,
                uid=read_number(uid) if uid else None,
                gid=read_number(gid) if gid else None,
                gids=tuple(int(one) for one in gids.split()),
                home_organisation=home_organisation or None,
                display_name=name or None,
            )
            problem = self._contradiction(line, (issuer, subject), mapped)
            if problem is None:
                self.people[issuer, subject] = mapped
        if problem is not None:
            self.problems.append(f"line {line}: {problem}")

    def _contradiction(self, line: int, person: Person, mapped: MappedIdentity) -> str | None:
        """Why this row and an earlier one cannot both be true."""
        first = self._person_lines.setdefault(person, line)
        if first != line:
            return f"the same person as in line {first}"
        first, other = self._accounts.setdefault(mapped.account, (line, mapped))
        if (other.uid, other.gid, set(other.gids)) != (mapped.uid, mapped.gid, set(mapped.gids)):
            return f"the same account as in line {first}, with other numbers"
        if mapped.uid is not None:
            first, account = self._uids.setdefault(mapped.uid, (line, mapped.account))
            if account != mapped.account:
                return f"the same uid as in line {first}, for another account"
        return None


def _fault(row: list[str]) -> str | None:
    """What is wrong with a row by itself."""
    if len(row) != len(HEADER):
        return f"has {len(row)} fields instead of {len(HEADER)}"
    fields = dict(zip(HEADER, row, strict=True))
    for name, limit in (("issuer", 512), ("subject", 512), ("home_organisation", 200), ("name", 200)):
        if (
            len(fields[name]) > limit
            or not fields[name].isprintable()
            or fields[name].strip() != fields[name]
        ):
            return f"{name} is longer than {limit} characters, has blanks around it or cannot be printed"
    if not fields["issuer"] or not fields["subject"]:
        return "needs issuer and subject"
    if not _ACCOUNT.fullmatch(fields["account"]):
        return "account must be 1 to 64 of A-Z a-z 0-9 . _ -, the first no . or -"
    return _number_fault(fields["uid"], fields["gid"], fields["gids"].split())


def _number_fault(uid: str, gid: str, gids: Iterable[str]) -> str | None:
    gids = tuple(gids)
    if bool(uid) != bool(gid):
        return "uid and gid stand together or not at all"
    if gids and not uid:
        return "gids need uid and gid"
    if len(gids) > MAX_GIDS:
        return f"has more than {MAX_GIDS} gids"
    if any(read_number(number) is None for number in ((uid, gid, *gids) if uid else ())):
        return f"uid, gid and gids are whole numbers from 0 to {MAX_ID}"
    return None
