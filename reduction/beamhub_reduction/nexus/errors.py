"""What can be wrong with a NeXus file, each with its facts."""

from __future__ import annotations

from beamhub_core.errors import BeamhubError


class NexusError(BeamhubError):
    """Base of everything the reader says about a file."""


class FileMissing(NexusError):
    """The file is not there, or is not a regular file."""

    exit_code = 3

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} cannot be opened: {self.reason}. Check the path, and that its pool is mounted."


class FileDamaged(NexusError):
    """HDF5 cannot make sense of the file, or of a part of it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} is damaged or no HDF5 file ({self.reason}). Copy it again from its origin."


class OutsideRoots(NexusError):
    """A path, or a link of a file, leads out of the folders that may be read."""

    exit_code = 4

    def __init__(self, path: str, target: str) -> None:
        super().__init__(path, target)
        self.path, self.target = path, target

    def __str__(self) -> str:
        return f"{self.path} leads to {self.target}, which is outside the folders that may be read here."


class NodeMissing(NexusError):
    """The file has no group or dataset of this name."""

    exit_code = 3

    def __init__(self, path: str, node: str) -> None:
        super().__init__(path, node)
        self.path, self.node = path, node

    def __str__(self) -> str:
        return f"{self.path} has no {self.node}. List what it has with `h5ls -r`."


class LinkMissing(NexusError):
    """A link, or a source of a virtual dataset, leads nowhere.

    HDF5 itself would say nothing for a virtual dataset and give fill values.
    """

    exit_code = 3

    def __init__(self, path: str, link: str, target: str, reason: str) -> None:
        super().__init__(path, link, target, reason)
        self.path, self.link, self.target, self.reason = path, link, target, reason

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.link} leads to {self.target}, but {self.reason}. "
            "Restore that file, or say that missing data are to be skipped."
        )


class LimitExceeded(NexusError):
    """The file is larger in some respect than we agree to walk through."""

    def __init__(self, path: str, what: str, limit: int) -> None:
        super().__init__(path, what, limit)
        self.path, self.what, self.limit = path, what, limit

    def __str__(self) -> str:
        return f"{self.path} has more than {self.limit} {self.what}, the limit of the reader."


class UnsupportedLayout(NexusError):
    """Data are stored in a way that we cannot read without risking wrong numbers."""

    def __init__(self, path: str, node: str, reason: str) -> None:
        super().__init__(path, node, reason)
        self.path, self.node, self.reason = path, node, reason

    def __str__(self) -> str:
        return f"{self.path}:{self.node} is stored in a way that is not supported: {self.reason}."


class UnitUnknown(NexusError):
    """A number has units that we cannot convert."""

    def __init__(self, path: str, node: str, units: str, wanted: str) -> None:
        super().__init__(path, node, units, wanted)
        self.path, self.node, self.units, self.wanted = path, node, units, wanted

    def __str__(self) -> str:
        return f"{self.path}:{self.node} has units {self.units!r}, which cannot become {self.wanted}."


class NoFrames(NexusError):
    """No entry of the file has detector frames."""

    exit_code = 3

    def __init__(self, path: str, looked_at: str) -> None:
        super().__init__(path, looked_at)
        self.path, self.looked_at = path, looked_at

    def __str__(self) -> str:
        return f"{self.path} has no detector frames ({self.looked_at}). Name a dataset: FILE::/path/in/file."


class NoEvents(NexusError):
    """No entry of the file has neutron events."""

    exit_code = 3

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} has no NXevent_data with a detector. Is it a time-of-flight file?"


class FramesDisagree(NexusError):
    """The parts of one stack have different frame shapes or types."""

    def __init__(self, path: str, first: str, other: str) -> None:
        super().__init__(path, first, other)
        self.path, self.first, self.other = path, first, other

    def __str__(self) -> str:
        return f"{self.path}: the parts of the stack disagree: {self.first} and {self.other}."


class FramePositionUnknown(NexusError):
    """Frames are missing in the middle of a stack, and nothing says how many."""

    def __init__(self, path: str, missing: tuple[str, ...]) -> None:
        super().__init__(path, missing)
        self.path, self.missing = path, missing

    def __str__(self) -> str:
        return (
            f"{self.path}: {', '.join(self.missing)} are missing inside the stack, with unknown lengths, "
            "so the frames behind them cannot be matched with the monitor. Restore the files."
        )


class MaskShapeWrong(NexusError):
    """A pixel mask does not fit the frames."""

    def __init__(
        self, path: str, node: str, mask_shape: tuple[int, ...], frame_shape: tuple[int, ...]
    ) -> None:
        super().__init__(path, node, mask_shape, frame_shape)
        self.path, self.node, self.mask_shape, self.frame_shape = path, node, mask_shape, frame_shape

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} has shape {self.mask_shape}, but a frame has {self.frame_shape}. "
            "Give a mask of the frame's shape."
        )


class GeometryMissing(NexusError):
    """The file does not say where the detector is."""

    def __init__(self, path: str, node: str, fields: tuple[str, ...]) -> None:
        super().__init__(path, node, fields)
        self.path, self.node, self.fields = path, node, fields

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} does not give {', '.join(self.fields)}. "
            "Pass the geometry yourself: geometry=..., a pyFAI geometry."
        )


class GeometryImplausible(NexusError):
    """Lengths that no detector has: their units are wrong, or absent."""

    def __init__(self, path: str, detector: str, distance_m: float, pixel_m: float) -> None:
        super().__init__(path, detector, distance_m, pixel_m)
        self.path, self.detector, self.distance_m, self.pixel_m = path, detector, distance_m, pixel_m

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.detector} says a distance of {self.distance_m:g} m and pixels of "
            f"{self.pixel_m:g} m. Its lengths have wrong units, or none (then they count as metres). Pass "
            "the right geometry: --poni FILE, or geometry=Geometry(...) in a notebook."
        )


class EventsInvalid(NexusError):
    """The arrays of an NXevent_data group contradict each other."""

    def __init__(self, path: str, node: str, reason: str) -> None:
        super().__init__(path, node, reason)
        self.path, self.node, self.reason = path, node, reason

    def __str__(self) -> str:
        return f"{self.path}:{self.node} holds no consistent events: {self.reason}."


class MaskPerFrame(MaskShapeWrong):
    """A detector has a pixel mask for each frame, and the reduction takes one for all."""

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} of shape {self.mask_shape} is a mask for each frame. "
            "Join them into one mask of the frame's shape, or use a step that takes one per frame."
        )


class LinkLoop(NexusError):
    """A chain of references never ends."""

    def __init__(self, path: str, node: str, chain: tuple[str, ...]) -> None:
        super().__init__(path, node, chain)
        self.path, self.node, self.chain = path, node, chain

    def __str__(self) -> str:
        return f"{self.path}:{self.node} leads in a circle or has no end: {' -> '.join(self.chain[:8])}."


class TransformationInvalid(NexusError):
    """A step of a transformation chain does not say what it does."""

    def __init__(self, path: str, node: str, reason: str) -> None:
        super().__init__(path, node, reason)
        self.path, self.node, self.reason = path, node, reason

    def __str__(self) -> str:
        return f"{self.path}:{self.node} is no transformation that can be used: {self.reason}."


class NoDefaultPlot(NexusError):
    """A file has nothing that NeXus would plot."""

    exit_code = 3

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} has no NXdata group with a signal. Name a dataset to plot."


class LogInvalid(NexusError):
    """An NXlog's values and times do not belong together."""

    def __init__(self, path: str, node: str, reason: str) -> None:
        super().__init__(path, node, reason)
        self.path, self.node, self.reason = path, node, reason

    def __str__(self) -> str:
        return f"{self.path}:{self.node} is no log that can be used: {self.reason}."


class FileShrank(NexusError):
    """A file that was being followed was replaced, or lost what it had."""

    exit_code = 6

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path} changed in a way that no growing file does: {self.reason}. Start again."
