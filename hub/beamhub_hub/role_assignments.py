"""Who holds which facility role: the facility's own list, never a claim."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import FacilityRole

MAX_BYTES = 5_000_000
_HEADER = ["issuer", "subject", "role"]


class RoleAssignments:
    """Facility roles by (issuer, subject)."""

    def __init__(self, roles: Mapping[tuple[str, str], tuple[FacilityRole, ...]]) -> None:
        self._roles = dict(roles)

    def of(self, issuer: str, subject: str) -> tuple[FacilityRole, ...]:
        """The roles of one person, sorted; none for a stranger."""
        return self._roles.get((issuer, subject), ())


def read_role_assignments(path: Path | None) -> RoleAssignments:
    """The list in a CSV file with the header `issuer,subject,role`; no file configured, no roles.

    Raises
    ------
    ConfigInvalid
        With every bad line, if the file cannot be read as such a list. Then nobody has any role.
    """
    if path is None:
        return RoleAssignments({})
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigInvalid(str(path), (f"the file is larger than {MAX_BYTES} bytes",))
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror}",)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigInvalid(str(path), ("is no CSV file in UTF-8",)) from error
    if not rows or rows[0] != _HEADER:
        raise ConfigInvalid(str(path), ("line 1: the header must be 'issuer,subject,role'",))
    return RoleAssignments(_by_person(path, rows[1:]))


def _by_person(path: Path, rows: list[list[str]]) -> dict[tuple[str, str], tuple[FacilityRole, ...]]:
    known: tuple[FacilityRole, ...] = get_args(FacilityRole)
    by_name = {role: role for role in known}
    found: dict[tuple[str, str], set[FacilityRole]] = {}
    problems = []
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(_HEADER) or not all(row):
            problems.append(f"line {number}: needs issuer, subject and role")
        elif row[2] not in by_name:
            problems.append(f"line {number}: no role {row[2]!r}; there are {', '.join(known)}")
        else:
            found.setdefault((row[0], row[1]), set()).add(by_name[row[2]])
    if problems:
        raise ConfigInvalid(str(path), tuple(problems))
    return {person: tuple(sorted(roles)) for person, roles in found.items()}
