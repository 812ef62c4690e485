"""Who holds which facility role: the facility's own list and rules; no claim names a role."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from beamhub_core.config.login import LoginConfig, RoleRule
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.entitlements import parse_entitlement, satisfies
from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import Entitlement, FacilityRole

MAX_BYTES = 5_000_000
_HEADER = ["issuer", "subject", "role"]


def group_of(role: FacilityRole) -> str:
    """The hub's group of a facility role; prefixed, so that no claim or person can name one."""
    return "beamhub-" + role.replace("_", "-")


class RoleAssignments:
    """Facility roles by (issuer, subject), and by exactly named groups of a provider."""

    def __init__(
        self, roles: Mapping[tuple[str, str], tuple[FacilityRole, ...]], rules: Sequence[RoleRule] = ()
    ) -> None:
        self._roles = dict(roles)
        self._rules = tuple(rules)

    def of(self, issuer: str, subject: str) -> tuple[FacilityRole, ...]:
        """The roles that the list gives one person, sorted; none for a stranger."""
        return self._roles.get((issuer, subject), ())

    def of_person(
        self, provider: ProviderConfig, subject: str, entitlements: Iterable[Entitlement]
    ) -> tuple[FacilityRole, ...]:
        """All roles of a person whom a provider just spoke for, sorted.

        A rule is met by what `beamhub_core.entitlements.satisfies` says; one whose entitlement is no group of
        the provider's namespaces is met by nobody. People of a provider of guests are guests, and nothing
        else, whatever list and rules say.
        """
        if provider.are_guests:
            return ("guest",)
        held = tuple(entitlements)
        found = set(self.of(provider.issuer, subject))
        for rule in self._rules:
            if rule.provider != provider.name:
                continue
            wanted = parse_entitlement(rule.entitlement, provider.entitlement_namespaces)
            if wanted is not None and any(satisfies(one, wanted) for one in held):
                found.add(rule.role)
        return tuple(sorted(found))


def read_roles(login: LoginConfig) -> RoleAssignments:
    """The list and the rules of a facility's configuration.

    Raises
    ------
    ConfigInvalid
        As read_role_assignments() does.
    """
    return RoleAssignments(_read_list(login.role_assignments), login.role_rules)


def read_role_assignments(path: Path | None) -> RoleAssignments:
    """The list in a CSV file with the header `issuer,subject,role`; no file configured, no roles.

    Raises
    ------
    ConfigInvalid
        With every bad line, if the file cannot be read as such a list. Then nobody has any role.
    """
    return RoleAssignments(_read_list(path))


def _read_list(path: Path | None) -> dict[tuple[str, str], tuple[FacilityRole, ...]]:
    if path is None:
        return {}
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
    return _by_person(path, rows[1:])


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
