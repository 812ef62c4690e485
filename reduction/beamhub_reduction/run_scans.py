"""What a run can do with scans: tomography pre-processing and fluorescence maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.step import CorruptPolicy, MissingPolicy
from beamhub_reduction.result import Result


class _Reduces(Protocol):
    """What these steps need of a run."""

    def reduce(self, step: str, **keywords: Any) -> Result:
        """Any step by its name."""


class ScanSteps:
    """The steps of scans, as methods of a run."""

    def tomography(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self: _Reduces,
        *,
        volume: str | Path | None = None,
        rebin: int = 1,
        log: bool = True,
        flats: str | None = None,
        darks: str | None = None,
        image_key: str | None = None,
        angle_range: tuple[float, float] | None = None,
        average: Literal["mean", "median"] = "mean",
        flat_order: Literal["interpolate", "nearest", "all"] = "interpolate",
        normalise: bool = True,
        min_transmission: float = 1e-6,
        saturated: Literal["keep", "blank"] = "keep",
        sinogram_rows: int = 16,
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Projections divided by their flats: the mean projection and the middle sinogram.

        Parameters
        ----------
        volume:
            A new NXtomo file for all corrected projections, shape (n_projections, ny, nx) float32, written
            while the scan is reduced; it may be larger than the memory.
        rebin:
            Pixels along each side of a bin; counts are summed before they are divided.
        log:
            Whether to give -log of the transmission; values below `min_transmission` are raised to it.
        flats, darks:
            FILE[::/path] of other frames than the scan's own, or 'none'.
        image_key:
            FILE::/path of keys: 0 projection, 1 flat, 2 dark, 3 invalid. Source: NeXus, NXtomo.nxdl.
        angle_range:
            First and last angle in degrees where the file gives none.
        average, flat_order:
            How flats of a group become one, and which groups count for a projection between them.
        normalise:
            Whether to divide by the monitor, frame by frame.
        saturated:
            'keep' counts above the detector's or their type's limit, or 'blank' them (NaN).
        sinogram_rows:
            Detector rows in one storage chunk of the volume.
        missing, corrupt:
            'fail', or leave such projections NaN and count them.
        client, progress:
            As in `reduce`.

        Raises
        ------
        NoProjections, ReferenceMissing, AnglesMissing, ScanArrayWrong, LinkMissing, CorruptChunk,
        FrameCountError, BadParameter, NothingLeft, ProductExists, StorageFull, ProductNotWritten
        """
        return self.reduce(
            "tomography", client=client, progress=progress, volume=volume, rebin=rebin, log=log, flats=flats,
            darks=darks, image_key=image_key, angle_range=angle_range, average=average,
            flat_order=flat_order, normalise=normalise, min_transmission=min_transmission,
            saturated=saturated, sinogram_rows=sinogram_rows, missing=missing, corrupt=corrupt,
        )  # fmt: skip

    def xrf_map(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self: _Reduces,
        rois: Mapping[str, tuple[float, float]],
        *,
        roi_unit: Literal["keV", "eV", "channel"] = "keV",
        calibration: tuple[float, float] | None = None,
        dead_time: Literal["auto", "live_time", "rates", "off"] = "auto",
        background: int = 0,
        normalise: bool = True,
        shape: tuple[int, int] | None = None,
        axes: Literal["auto", "channel_last", "element_channel"] = "auto",
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Maps of fluorescence lines over the scanned positions, and the sum and the maximum spectrum.

        Parameters
        ----------
        rois:
            Name to (low, high) of each region, in `roi_unit`; low is inside, high is not.
        calibration:
            (offset, gain) in keV of channel i = offset + gain i; without it the file's.
        dead_time:
            'live_time' multiplies by real time / live time, 'rates' by input / output count rate, of each
            element and pixel; 'auto' takes what the file has; 'off' maps the counts as they are.
        background:
            Channels on each side of a region whose mean is subtracted as a line; 0 for none.
        normalise:
            Whether to divide by the monitor, pixel by pixel.
        shape:
            (ny, nx) of a scan that was written as a list of points.
        axes:
            Whether the axis before the channels counts detector elements ('element_channel'); 'auto' takes
            four dimensions as (y, x, element, channel) and less as points and channels.
        missing, corrupt:
            'fail', or leave such pixels NaN and count them.
        client, progress:
            As in `reduce`.

        Raises
        ------
        NoSpectra, DeadTimeMissing, CalibrationMissing, ScanArrayWrong, LinkMissing, CorruptChunk,
        BadParameter, NothingLeft
        """
        return self.reduce(
            "xrf_map", client=client, progress=progress,
            rois=tuple(f"{name}={low}:{high}" for name, (low, high) in rois.items()), roi_unit=roi_unit,
            calibration=calibration, dead_time=dead_time, background=background, normalise=normalise,
            shape=shape, axes=axes, missing=missing, corrupt=corrupt,
        )  # fmt: skip
