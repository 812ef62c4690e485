"""What Linux tells of processes in /proc; elsewhere nothing. Standard library only, for the launcher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PARENT, _USER_TICKS, _SYSTEM_TICKS, _START = 1, 11, 12, 19  # places behind the name; state is 0


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process at one moment. Times are in ticks of the kernel's clock (SC_CLK_TCK a second).

    Source: proc_pid_stat(5).
    """

    pid: int
    state: str
    parent: int
    processor_ticks: int
    start_ticks: int
    """Since boot: with the boot's identity it tells a process from a later one with the same number."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more: a zombie only waits for somebody to take its exit status."""
        return self.state in ("Z", "X")


def read_process(pid: int) -> ProcessFacts | None:
    """The facts of one process; None when there is none, or no /proc."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
        # The second field is the program's name, which may hold blanks and parentheses: the last one ends it.
        words = text.rpartition(")")[2].split()
        ticks = int(words[_USER_TICKS]) + int(words[_SYSTEM_TICKS])
        return ProcessFacts(pid, words[0], int(words[_PARENT]), ticks, int(words[_START]))
    except (OSError, ValueError, IndexError):
        return None


def read_processes() -> list[ProcessFacts]:
    """The facts of every process, by number; those that end meanwhile are left out."""
    try:
        numbers = sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    except OSError:
        return []
    return [facts for facts in map(read_process, numbers) if facts is not None]


def is_running(pid: int) -> bool:
    """Whether a process of this number is there and has not ended."""
    facts = read_process(pid)
    return facts is not None and not facts.has_ended
