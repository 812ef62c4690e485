"""Tomography scans: which frames are projections, flats and darks, and at which angles they were taken.

Source: NeXus, NXtomo.nxdl (image_key 0 projection, 1 flat, 2 dark, 3 invalid; image_key_control -1
alignment).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.nexus.errors import LinkMissing, NexusError, NodeMissing, NoFrames, UnitUnknown
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack
from beamhub_reduction.nexus.geometry import Monitor, read_monitor
from beamhub_reduction.nexus.scan_errors import NoProjections, ScanArrayWrong
from beamhub_reduction.nexus.tree import NexusFile, Node

PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3
ALIGNMENT = -1
_KEYS = (PROJECTION, FLAT, DARK, INVALID)

KeyArray = np.ndarray[Any, np.dtype[np.int8]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class TomographyScan:
    """One scan as NXtomo sees it.

    `keys` (n_frames,) say what each frame is. `angles_deg` (n_frames,) are NaN where unknown, and None when
    the file gives none. `monitor` has one reading per frame, or is None.
    """

    stack: FrameStack
    keys: KeyArray
    angles_deg: FloatArray | None
    monitor: Monitor | None
    title: str | None
    sample: str | None

    def frames_of(self, key: int) -> IntArray:
        """The numbers of the frames of one kind, ascending."""
        return np.flatnonzero(self.keys == key)


def read_tomography_scan(
    nexus: NexusFile, dataset: str | None = None, *, image_key: str | None = None
) -> TomographyScan:
    """The scan of the first detector with frames and image keys, or of one named dataset.

    Parameters
    ----------
    dataset:
        Path of the frames.
    image_key:
        'FILE::/path' (or '/path' in the same file) of keys that are used instead of the file's.

    Raises
    ------
    NoProjections
        If no frame is marked as a projection, or nothing marks any.
    ScanArrayWrong
        If keys or angles do not fit the frames.
    NoFrames, LinkMissing, UnsupportedLayout, FramesDisagree, NodeMissing
    """
    stack = _find_stack(nexus, dataset)
    entry = nexus.node(stack.entry)
    where, keys = _read_keys(nexus, entry, stack, image_key)
    if len(keys) < stack.n_frames or (len(keys) > stack.n_frames and not stack.missing):
        raise ScanArrayWrong(nexus.path, where, f"{len(keys)} image keys for {stack.n_frames} frames")
    keys = keys[: stack.n_frames]
    if not (keys == PROJECTION).any():
        raise NoProjections(nexus.path, where, f"none of {len(keys)} frames has the key 0")
    monitor = _read_control(nexus, entry, stack.n_frames)
    sample = next((text for group in entry.groups("NXsample") if (text := group.text("name"))), None)
    return TomographyScan(stack, keys, _read_angles(entry, keys), monitor, entry.text("title"), sample)


def _find_stack(nexus: NexusFile, dataset: str | None) -> FrameStack:
    """The named frames, else the first readable ones beside image keys, else the first of the file."""
    if dataset is not None:
        return read_frame_stack(nexus, dataset)
    broken: LinkMissing | None = None
    for entry in nexus.entries():
        for group in _detectors(entry):
            if group.get("image_key") is None or "data" not in group.links():
                continue
            try:
                stack = read_frame_stack(nexus, f"{group.target.path}/data")
            except LinkMissing as error:
                broken = broken or error
                continue
            if stack.n_present:
                return stack
            broken = broken or next(iter(stack.missing), None)
    if broken is not None:
        raise broken
    return read_frame_stack(nexus)


def _detectors(entry: Node) -> list[Node]:
    """NXdetector groups of an entry and of its sub-entries (NXsubentry, as older DLS files have them)."""
    found = []
    for group in (entry, *entry.groups("NXsubentry")):
        found += [d for i in group.groups("NXinstrument") for d in i.groups("NXdetector")]
        found += group.groups("NXdetector")
    return found


def _read_keys(
    nexus: NexusFile, entry: Node, stack: FrameStack, image_key: str | None
) -> tuple[str, KeyArray]:
    """(where they stand, the keys) of a scan; alignment images count as invalid."""
    if image_key is not None:
        return image_key, _checked_keys(nexus.path, image_key, read_named_array(nexus, image_key))
    own = nexus.node(stack.detector)
    others = [group for group in _detectors(entry) if group.target.path != stack.detector]
    for group in (own, *others):
        node = group.get("image_key")
        if node is None or not node.is_dataset or (group is not own and node.size != stack.n_frames):
            continue
        keys = _checked_keys(node.target.file, node.target.path, np.asarray(node.values()))
        control = group.get("image_key_control")
        if control is not None and control.is_dataset and control.size == keys.size:
            keys[np.asarray(control.values()).ravel() == ALIGNMENT] = INVALID
        return node.target.path, keys
    raise NoProjections(nexus.path, stack.detector, "it has no image_key")


def _checked_keys(file: str, node: str, values: np.ndarray[Any, Any]) -> KeyArray:
    flat = values.ravel()
    if flat.dtype.kind not in "iufb" or not np.isin(flat, _KEYS).all():
        raise ScanArrayWrong(file, node, "image keys are 0, 1, 2 or 3")
    return flat.astype(np.int8)


def read_named_array(nexus: NexusFile, name: str) -> np.ndarray[Any, Any]:
    """All values of 'FILE::/path', or of '/path' in the same file.

    Raises
    ------
    FileMissing, OutsideRoots, NodeMissing, LinkMissing, LimitExceeded
    """
    file, inside = split_name(name)
    if inside is None and not file.startswith("/"):
        raise NodeMissing(name, "'::/path' behind the file's name")
    path = inside if inside is not None else file
    if inside is None or not file:
        return np.asarray(_values(nexus, path))
    with NexusFile(real_file(file, nexus.roots), nexus.roots) as other:
        return np.asarray(_values(other, path))


def _values(nexus: NexusFile, path: str) -> Any:
    node = nexus.node(path)
    if not node.is_dataset:
        raise NodeMissing(nexus.path, path + " as a dataset")
    return node.values()


def split_name(name: str) -> tuple[str, str | None]:
    """('FILE', '/path') of 'FILE::/path'; without '::' there is no path."""
    file, found, inside = name.partition("::")
    return file, inside if found else None


def _read_angles(entry: Node, keys: KeyArray) -> FloatArray | None:
    """Degrees of every frame: NXsample/rotation_angle, else the first axis of an NXdata that is an angle."""
    candidates: list[tuple[Node, str]] = []
    for group in (entry, *entry.groups("NXsubentry")):
        candidates += [(sample, "rotation_angle") for sample in group.groups("NXsample")]
        for data in group.groups("NXdata"):
            candidates += [(data, "rotation_angle"), *_first_axis(data)]
    for group, name in candidates:
        try:
            values = group.numbers(name, "rad")
        except UnitUnknown:
            continue
        if values is None or values.size < 1 or (name != "rotation_angle" and values.size != keys.size):
            continue
        return _angles_of_frames(group, name, np.degrees(values).ravel(), keys)
    return None


def _first_axis(data: Node) -> list[tuple[Node, str]]:
    axes = data.attribute("axes")
    if not isinstance(axes, np.ndarray) or axes.size < 3:
        return []
    first = axes.flat[0]
    return [(data, first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first))]


def _angles_of_frames(group: Node, name: str, angles: FloatArray, keys: KeyArray) -> FloatArray:
    if angles.size == keys.size:
        return angles
    is_projection = keys == PROJECTION
    if angles.size == np.count_nonzero(is_projection):  # some writers leave flats and darks out
        spread = np.full(keys.size, np.nan)
        spread[is_projection] = angles
        return spread
    node = f"{group.target.path}/{name}"
    raise ScanArrayWrong(group.target.file, node, f"{angles.size} angles for {keys.size} frames")


def _read_control(nexus: NexusFile, entry: Node, n_frames: int) -> Monitor | None:
    """NXtomo's control/data, else the entry's first monitor, when it has one reading per frame."""
    control = entry.get("control")
    values = control.numbers("data") if control is not None and not control.is_dataset else None
    if control is not None and values is not None and values.size == n_frames:
        return Monitor(control.target.path, values.ravel(), control.number("nominal"))
    monitor = read_monitor(nexus, entry.target.path)
    return monitor if monitor is not None and monitor.values.size == n_frames else None


def read_reference_stack(nexus: NexusFile, dataset: str | None, key: int) -> tuple[FrameStack, IntArray]:
    """Flats or darks in a file of their own: (its frames, the numbers of those to use).

    Where the file has image keys, frames of that key are used; else all.

    Raises
    ------
    NoFrames, LinkMissing, UnsupportedLayout, ...
    """
    stack = _find_stack(nexus, dataset)
    try:
        _, keys = _read_keys(nexus, nexus.node(stack.entry), stack, None)
    except NexusError:
        return stack, np.arange(stack.n_frames)
    numbers = np.flatnonzero(keys[: stack.n_frames] == key)
    if not numbers.size:
        raise NoFrames(nexus.path, f"none of {stack.n_frames} frames has the image_key {key}")
    return stack, numbers
