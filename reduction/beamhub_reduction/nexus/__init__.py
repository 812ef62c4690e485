"""The one reader of NeXus and HDF5 files: headers, frames, events, previews. Light: numpy and h5py only."""

from beamhub_reduction.nexus.closure import MissingLink
from beamhub_reduction.nexus.errors import (
    EventsInvalid,
    FileDamaged,
    FileMissing,
    FramePositionUnknown,
    FramesDisagree,
    GeometryMissing,
    LimitExceeded,
    LinkMissing,
    MaskShapeWrong,
    NexusError,
    NodeMissing,
    NoEvents,
    NoFrames,
    OutsideRoots,
    UnitUnknown,
    UnsupportedLayout,
)
from beamhub_reduction.nexus.event_pulses import count_pulses
from beamhub_reduction.nexus.events import EventBank, EventRun, read_event_run
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.geometry import Geometry, Monitor, read_geometry, read_monitor, read_wavelength
from beamhub_reduction.nexus.header import DetectorHeader, Header, open_header
from beamhub_reduction.nexus.preview import CurvePreview, ImagePreview, preview_image
from beamhub_reduction.nexus.tomography import TomographyScan, read_tomography_scan
from beamhub_reduction.nexus.tree import NexusFile, Node, Target, resolve
from beamhub_reduction.nexus.virtual import Layout, Piece, read_layout
from beamhub_reduction.nexus.xrf import XrfScan, read_xrf_scan

__all__ = [
    "CurvePreview",
    "DetectorHeader",
    "EventBank",
    "EventRun",
    "EventsInvalid",
    "FileDamaged",
    "FileMissing",
    "FramePositionUnknown",
    "FrameStack",
    "FramesDisagree",
    "Geometry",
    "GeometryMissing",
    "Header",
    "ImagePreview",
    "Layout",
    "LimitExceeded",
    "LinkMissing",
    "MaskShapeWrong",
    "MissingLink",
    "Monitor",
    "NexusError",
    "NexusFile",
    "NoEvents",
    "NoFrames",
    "Node",
    "NodeMissing",
    "OutsideRoots",
    "Piece",
    "Target",
    "TomographyScan",
    "UnitUnknown",
    "UnsupportedLayout",
    "XrfScan",
    "count_pulses",
    "open_header",
    "preview_image",
    "read_event_run",
    "read_frame_stack",
    "read_geometry",
    "read_layout",
    "read_monitor",
    "read_pixel_mask",
    "read_tomography_scan",
    "read_wavelength",
    "read_xrf_scan",
    "resolve",
]
