"""The one reader of NeXus and HDF5 files: headers, frames, events, previews. Light: numpy and h5py only."""

from beamhub_reduction.nexus.boxes import Box, Slab
from beamhub_reduction.nexus.closure import MissingLink
from beamhub_reduction.nexus.errors import (
    EventsInvalid,
    FileDamaged,
    FileMissing,
    FileShrank,
    FramePositionUnknown,
    FramesDisagree,
    GeometryImplausible,
    GeometryMissing,
    LimitExceeded,
    LinkLoop,
    LinkMissing,
    LogInvalid,
    MaskPerFrame,
    MaskShapeWrong,
    NexusError,
    NoDefaultPlot,
    NodeMissing,
    NoEvents,
    NoFrames,
    OutsideRoots,
    TransformationInvalid,
    UnitUnknown,
    UnsupportedLayout,
)
from beamhub_reduction.nexus.event_pulses import count_pulses
from beamhub_reduction.nexus.events import EventBank, EventRun, read_event_run
from beamhub_reduction.nexus.follow import follow, written_prefix
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.geometry import Geometry, Monitor, read_geometry, read_monitor, read_wavelength
from beamhub_reduction.nexus.header import DetectorHeader, Header, open_header, read_header
from beamhub_reduction.nexus.logs import Log, read_log
from beamhub_reduction.nexus.masks import (
    PixelMasks,
    ValueLimits,
    read_flat_field,
    read_pixel_masks,
    read_value_limits,
)
from beamhub_reduction.nexus.plot import DefaultPlot, PlotAxis, PlotField, read_default_plot
from beamhub_reduction.nexus.preview import CurvePreview, ImagePreview, preview_image
from beamhub_reduction.nexus.scanned import ScannedVariable, read_frame_times, read_scanned_variables
from beamhub_reduction.nexus.text import as_text
from beamhub_reduction.nexus.tiles import FrameRun
from beamhub_reduction.nexus.tilt import PixelGrid, read_pixel_grid
from beamhub_reduction.nexus.tomography import TomographyScan, read_tomography_scan
from beamhub_reduction.nexus.transformations import Step, read_matrices, read_steps
from beamhub_reduction.nexus.tree import NexusFile, Node, Target, resolve
from beamhub_reduction.nexus.virtual import Layout, Piece, read_layout
from beamhub_reduction.nexus.xrf import XrfScan, read_xrf_scan

__all__ = [
    "Box",
    "CurvePreview",
    "DefaultPlot",
    "DetectorHeader",
    "EventBank",
    "EventRun",
    "EventsInvalid",
    "FileDamaged",
    "FileMissing",
    "FileShrank",
    "FramePositionUnknown",
    "FrameRun",
    "FrameStack",
    "FramesDisagree",
    "Geometry",
    "GeometryImplausible",
    "GeometryMissing",
    "Header",
    "ImagePreview",
    "Layout",
    "LimitExceeded",
    "LinkLoop",
    "LinkMissing",
    "Log",
    "LogInvalid",
    "MaskPerFrame",
    "MaskShapeWrong",
    "MissingLink",
    "Monitor",
    "NexusError",
    "NexusFile",
    "NoDefaultPlot",
    "NoEvents",
    "NoFrames",
    "Node",
    "NodeMissing",
    "OutsideRoots",
    "Piece",
    "PixelGrid",
    "PixelMasks",
    "PlotAxis",
    "PlotField",
    "ScannedVariable",
    "Slab",
    "Step",
    "Target",
    "TomographyScan",
    "TransformationInvalid",
    "UnitUnknown",
    "UnsupportedLayout",
    "ValueLimits",
    "XrfScan",
    "as_text",
    "count_pulses",
    "follow",
    "open_header",
    "preview_image",
    "read_default_plot",
    "read_event_run",
    "read_flat_field",
    "read_frame_stack",
    "read_frame_times",
    "read_geometry",
    "read_header",
    "read_layout",
    "read_log",
    "read_matrices",
    "read_monitor",
    "read_pixel_grid",
    "read_pixel_mask",
    "read_pixel_masks",
    "read_scanned_variables",
    "read_steps",
    "read_tomography_scan",
    "read_value_limits",
    "read_wavelength",
    "read_xrf_scan",
    "resolve",
    "written_prefix",
]
