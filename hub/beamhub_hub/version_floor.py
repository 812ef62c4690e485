"""The oldest versions with which the hub starts: below them are known holes in the front door."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Final

from packaging.version import InvalidVersion, Version

from beamhub_core.errors import BeamhubError

FLOORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "jupyterhub": "6.1.1",  # XSRF by no-cors, open redirects, filtered admin scopes: all older ones
        "oauthenticator": "17.4.0",  # CVE-2026-33175
        "PyJWT": "2.12",  # CVE-2026-32597: an unknown `crit` was accepted
        "tornado": "6.6",  # CVE-2026-91990, CVE-2026-91991 (6.5.8), CVE-2026-123535: bodies, cookies
    }
)


class VersionsTooOld(BeamhubError):
    """Something that the login rests on is too old, or is not there."""

    exit_code = 7

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return f"Too old to be safe: {'; '.join(self.problems)}. Install newer versions; nothing was started."


def check_versions() -> None:
    """Look at what is installed beside us, by its metadata.

    Raises
    ------
    VersionsTooOld
        With everything that is below its floor, missing or of a version that cannot be read.
    """
    problems = [problem for name, floor in FLOORS.items() if (problem := _problem(name, floor))]
    if problems:
        raise VersionsTooOld(tuple(problems))


def _problem(name: str, floor: str) -> str | None:
    try:
        found = version(name)
        too_old = Version(found) < Version(floor)
    except PackageNotFoundError:
        return f"{name} is not installed, {floor} is needed"
    except (InvalidVersion, TypeError):  # metadata without a version gives None
        return f"{name} has no version that can be read, {floor} is needed"
    return f"{name} {found} is below {floor}" if too_old else None
