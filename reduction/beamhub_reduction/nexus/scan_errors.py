"""What can be wrong with a tomography scan or a fluorescence map, each with its facts."""

from __future__ import annotations

from beamhub_reduction.nexus.errors import NexusError


class NoProjections(NexusError):
    """No frame of a scan is a projection."""

    exit_code = 3

    def __init__(self, path: str, node: str, reason: str) -> None:
        super().__init__(path, node, reason)
        self.path, self.node, self.reason = path, node, reason

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} has no projections: {self.reason}. An NXtomo file marks them with "
            "image_key 0; name another file's keys: image_key=FILE::/path."
        )


class ReferenceMissing(NexusError):
    """A scan has no flat frames, or no dark frames, and nobody said that it needs none."""

    exit_code = 3

    def __init__(self, path: str, node: str, kind: str) -> None:
        super().__init__(path, node, kind)
        self.path, self.node, self.kind = path, node, kind

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} has no {self.kind} "
            f"(NXtomo image_key {1 if self.kind == 'flats' else 2}). "
            f"Name the file that has them, {self.kind}=FILE[::/path], or say {self.kind}='none'."
        )


class ScanArrayWrong(NexusError):
    """An array that belongs to the frames or points of a scan has another length, or impossible values."""

    def __init__(self, path: str, node: str, reason: str) -> None:
        super().__init__(path, node, reason)
        self.path, self.node, self.reason = path, node, reason

    def __str__(self) -> str:
        return f"{self.path}:{self.node} does not fit the scan: {self.reason}."


class AnglesMissing(NexusError):
    """Nothing says at which angle each projection was taken."""

    exit_code = 3

    def __init__(self, path: str, entry: str) -> None:
        super().__init__(path, entry)
        self.path, self.entry = path, entry

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.entry} gives no rotation_angle for its projections, which an NXtomo volume "
            "needs. Pass the first and the last angle in degrees: angle_range."
        )


class NoSpectra(NexusError):
    """No entry of the file has spectra of a multichannel analyser."""

    exit_code = 3

    def __init__(self, path: str, looked_at: str) -> None:
        super().__init__(path, looked_at)
        self.path, self.looked_at = path, looked_at

    def __str__(self) -> str:
        return (
            f"{self.path} has no fluorescence spectra ({self.looked_at}). "
            "Name a dataset: FILE::/path/in/file."
        )


class DeadTimeMissing(NexusError):
    """A detector element does not say how long it was dead."""

    exit_code = 3

    def __init__(self, path: str, node: str, fields: tuple[str, ...]) -> None:
        super().__init__(path, node, fields)
        self.path, self.node, self.fields = path, node, fields

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} has none of {', '.join(self.fields)} for its dead time. "
            "Reduce with dead_time='off' to map the counts as they are."
        )


class CalibrationMissing(NexusError):
    """Nothing says which energy a channel has."""

    exit_code = 3

    def __init__(self, path: str, node: str) -> None:
        super().__init__(path, node)
        self.path, self.node = path, node

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.node} gives no energies of its channels (energy, or calibration offset and "
            "gain). Pass calibration=(offset_keV, gain_keV), or regions in channels: roi_unit='channel'."
        )
