"""What can go wrong in a reduction, each with its facts. Errors of the reader are in `nexus.errors`."""

from __future__ import annotations

from beamhub_core.errors import BeamhubError


class ReductionError(BeamhubError):
    """Base of everything a reduction says."""


class CorruptChunk(ReductionError):
    """A storage chunk does not decode to what its dataset says it holds."""

    def __init__(self, path: str, dataset: str, chunk: tuple[int, ...], reason: str) -> None:
        super().__init__(path, dataset, chunk, reason)
        self.path, self.dataset, self.chunk, self.reason = path, dataset, chunk, reason

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.dataset}, storage chunk {self.chunk}, cannot be decoded: {self.reason}. "
            "Copy the file again, or leave such frames out with corrupt='skip'."
        )


class MemoryTooSmall(ReductionError):
    """Reading needs more memory at once than there may be."""

    exit_code = 5

    def __init__(self, path: str, dataset: str, n_bytes: int, limit_bytes: int) -> None:
        super().__init__(path, dataset, n_bytes, limit_bytes)
        self.path, self.dataset = path, dataset
        self.n_bytes, self.limit_bytes = n_bytes, limit_bytes

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.dataset} needs {self.n_bytes / 2**30:.2f} GiB at once (its storage chunks "
            f"are that large), and {self.limit_bytes / 2**30:.2f} GiB are allowed. Use a server or workers "
            "with more memory, or rewrite the file in smaller chunks."
        )


class FilesChanged(ReductionError):
    """A file changed between planning and reading."""

    exit_code = 6

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} changed while it was being reduced. Wait until the scan has ended and run again."


class FrameCountError(ReductionError):
    """A monitor does not give one reading per frame."""

    def __init__(self, n_readings: int, n_frames: int) -> None:
        super().__init__(n_readings, n_frames)
        self.n_readings, self.n_frames = n_readings, n_frames

    def __str__(self) -> str:
        return (
            f"The monitor has {self.n_readings} readings for {self.n_frames} frames. "
            "Reduce with normalise=False, or repair the monitor."
        )


class CountsTooLarge(ReductionError):
    """A count of 64 bits does not fit what is summed exactly."""

    def __init__(self, largest: int, limit: int) -> None:
        super().__init__(largest, limit)
        self.largest, self.limit = largest, limit

    def __str__(self) -> str:
        return (
            f"The frames hold a count of {self.largest}, and sums are exact up to {self.limit} only. "
            "Mask the pixel that holds it, or ask whether the file's type is right."
        )


class BadParameter(ReductionError):
    """A parameter of a reduction is outside what makes sense."""

    exit_code = 2

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(name, value, expected)
        self.name, self.value, self.expected = name, value, expected

    def __str__(self) -> str:
        return f"{self.name} is {self.value!r}; it must be {self.expected}."


class ClusterRefused(ReductionError):
    """The facility's gateway gives no cluster; `reason` is its own, with the numbers where there are any."""

    exit_code = 5

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"There is no cluster: {self.reason}"


class NotInSession(ReductionError):
    """Something was asked for that only a session of the platform has."""

    exit_code = 2

    def __str__(self) -> str:
        return "Long jobs run in a session of the platform; this is none. Use `beamhub reduce` here."


class NoSuchJob(ReductionError):
    """No job, or several, begin with this id."""

    exit_code = 3

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"There is not one job {self.text[:40]!r}; `beamhub job list` names them."


class NothingLeft(ReductionError):
    """After masks and skipped parts, no data remain."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        return f"{self.path}: no {self.what} are left to reduce. Check the mask and what was skipped."


class RunNotFound(ReductionError):
    """The name is neither a dataset of this session nor a file."""

    exit_code = 3

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        choice = ", ".join(self.known) or "none"
        return f"{self.name!r} is no dataset of this session and no file. Datasets here: {choice}."


class SessionFileInvalid(ReductionError):
    """The file that tells a server what it is cannot be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"The session file {self.path} cannot be used ({self.reason}). Restart this server."


class ProductExists(ReductionError):
    """A file of the product's name is there already; products are never overwritten."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} exists already and is not overwritten. Give another path."


class ProductNotWritten(ReductionError):
    """The storage refused the product; nothing of it was left behind."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"The product {self.path} was not written: {self.reason}. Nothing of it was left behind."


class StorageFull(ProductNotWritten):
    """The disk or a quota is full."""

    exit_code = 5

    def __str__(self) -> str:
        return (
            f"The product {self.path} was not written: {self.reason}. Nothing of it was left behind. "
            "Free some space, or pass another folder: result.write(path)."
        )
