"""The errors of every room: each carries its facts as attributes."""

from __future__ import annotations


class BeamhubError(Exception):
    """Base of all our errors; `exit_code` is what the command line returns for it."""

    exit_code = 1


class Unavailable(BeamhubError):
    """Another process did not answer; the caller may try again later."""

    exit_code = 6

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(service, reason)
        self.service, self.reason = service, reason

    def __str__(self) -> str:
        return f"The {self.service} service gives no answer ({self.reason}). Nothing changed; try again."


class ConfigInvalid(BeamhubError):
    """A configuration file has problems; all of them, each with its path."""

    exit_code = 7

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__(source, problems)
        self.source, self.problems = source, problems

    def __str__(self) -> str:
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{self.source} has {len(self.problems)} problem(s):\n{lines}"
