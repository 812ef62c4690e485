"""What can go wrong while units are run, each with its facts."""

from __future__ import annotations

from beamhub_reduction.errors import ReductionError

GIB = 1024**3


class Cancelled(ReductionError):
    """Somebody asked the reduction to end."""

    exit_code = 130

    def __init__(self, n_done: int, n_units: int, journal: str | None) -> None:
        super().__init__(n_done, n_units, journal)
        self.n_done, self.n_units, self.journal = n_done, n_units, journal

    def __str__(self) -> str:
        kept = f"They are kept in {self.journal}: the same call goes on from there." if self.journal else ""
        return f"The reduction was ended after {self.n_done} of {self.n_units} parts. {kept}".rstrip()


class PartKilledWorkers(ReductionError):
    """Every worker that tried one unit died of it."""

    def __init__(self, number: int, where: str, n_workers: int) -> None:
        super().__init__(number, where, n_workers)
        self.number, self.where, self.n_workers = number, where, n_workers

    def __str__(self) -> str:
        return (
            f"Part {self.number} ({self.where}) ended {self.n_workers} workers, one after the other. "
            "Give the workers more memory, or copy the file again: a damaged one may do this."
        )


class MemoryTooSmall(ReductionError):
    """One unit needs more memory than there is."""

    exit_code = 5

    def __init__(self, where: str, needed_bytes: int, limit_bytes: int) -> None:
        super().__init__(where, needed_bytes, limit_bytes)
        self.where, self.needed_bytes, self.limit_bytes = where, needed_bytes, limit_bytes

    def __str__(self) -> str:
        return (
            f"One part ({self.where}) needs {self.needed_bytes / GIB:.2f} GiB of memory, and the reduction "
            f"may use {self.limit_bytes / GIB:.2f} GiB. Start a session, or workers, with more memory."
        )


class ClusterLost(ReductionError):
    """The Dask scheduler, or the last of its workers, went away."""

    exit_code = 6

    def __init__(self, reason: str, n_done: int, n_units: int) -> None:
        super().__init__(reason, n_done, n_units)
        self.reason, self.n_done, self.n_units = reason, n_done, n_units

    def __str__(self) -> str:
        return (
            f"The Dask cluster was lost ({self.reason}) after {self.n_done} of {self.n_units} parts. "
            "Connect again and repeat the call; with a journal it goes on from there."
        )


class JournalUnusable(ReductionError):
    """The folder of a journal cannot hold one."""

    exit_code = 2

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"The journal {self.path} cannot be used: {self.reason}. Give a folder that you may write."


class EntryInvalid(ReductionError):
    """A file of a journal is not what was once written there; its unit is done again."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"The journal's entry {self.path} is not used: {self.reason}. Its part is done again."
