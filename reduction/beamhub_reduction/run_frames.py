"""The steps over detector frames, as methods of a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from beamhub_reduction.nexus import Geometry
from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.step import CorruptPolicy, MissingPolicy
from beamhub_reduction.result import Result

Rectangle = str | tuple[int, int, int, int]
"""'y0:y1,x0:x1', 'name=y0:y1,x0:x1' or (y0, y1, x0, x1); ends excluded."""


class FrameSteps:
    """What a run offers for stacks of frames."""

    @abstractmethod
    def reduce(
        self,
        step: str,
        *,
        client: Client | None = None,
        progress: ProgressCallback | None = None,
        **parameters: Any,
    ) -> Result:
        """Any step by its name; a run has it."""

    def frame_statistics(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self,
        *,
        images: bool = True,
        regions: Sequence[Rectangle] = (),
        labels: Any = None,
        mask: Any = None,
        sigma_clip: float | None = None,
        clip_passes: int = 3,
        defects: float | None = None,
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Mean, sum, variance and extremes of each pixel over all frames; counts of frames and regions.

        Sums are exact for integer counts. The detector's 'no value' is left out in the frame that has it.

        Parameters
        ----------
        images:
            False counts frames and regions only, which is faster.
        regions:
            Rectangles to follow from frame to frame.
        labels:
            Whole numbers, shape (ny, nx), or a .npy file: each above 0 is a region.
        mask:
            Pixels to leave out besides those the file names, shape (ny, nx), non-zero = masked.
        sigma_clip:
            Reject values this many standard deviations from their pixel's mean, in at most `clip_passes`
            more passes over the frames.
        defects:
            Mark pixels whose mean is this many deviations from the median of their neighbours:
            1 hot, 2 dead.
        missing, corrupt, client, progress:
            As in `azimuthal`.

        Returns
        -------
        Signals mean (with uncertainties), sum, variance, minimum, maximum, n_valid, and n_rejected and
        defects where asked for, shape (ny, nx); total_counts (n_frames,); region_counts and region_pixels
        (n_frames, n_regions).

        Raises
        ------
        LinkMissing, CorruptChunk, CountsTooLarge, MaskShapeWrong, NoFrames, BadParameter, NothingLeft
        """
        return self.reduce(
            "frame_statistics", client=client, progress=progress, images=images, regions=regions,
            labels=labels, mask=mask, sigma_clip=sigma_clip, clip_passes=clip_passes, defects=defects,
            missing=missing, corrupt=corrupt,
        )  # fmt: skip

    def saxs(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self,
        *,
        bins: int = 1000,
        unit: str = "q_nm^-1",
        mask: Any = None,
        normalise: bool = True,
        transmission: str | float | None = None,
        test: Literal["cormap", "chi_square", "none"] = "cormap",
        n_reference: int = 1,
        significance: float = 0.01,
        stop_at_first: bool = False,
        background: str | None = None,
        background_scale: float = 1.0,
        background_transmission: str | float | None = None,
        absolute_scale: float | None = None,
        geometry: Geometry | None = None,
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """I(q) of a sample: frames that agree averaged, normalised, the background run subtracted.

        Parameters
        ----------
        bins, unit, mask, normalise, geometry:
            As in `azimuthal`.
        transmission, background_transmission:
            A number, or the path of numbers in the file: one, or one per frame.
        test, n_reference, significance, stop_at_first:
            How frames are compared with the mean of the first ones, the chance of rejecting any good frame,
            and whether all frames behind the first rejected one are rejected too.
        background:
            'FILE', 'FILE::/path/of/frames', or '::/path' for frames of the same file.
        background_scale:
            Factor of the background before it is subtracted.
        absolute_scale:
            Factor to the scattering cross section in cm^-1, from a standard.
        missing, corrupt, client, progress:
            As in `azimuthal`.

        Returns
        -------
        Signals intensity, sample and background (n_bins,) with uncertainties; total_counts, probability and
        frame_used (n_frames,).

        Raises
        ------
        LinkMissing, CorruptChunk, GeometryMissing, MaskShapeWrong, FramesDisagree, FrameCountError, NoFrames,
        BadParameter, NothingLeft
        """
        return self.reduce(
            "saxs", client=client, progress=progress, bins=bins, unit=unit, mask=mask, normalise=normalise,
            transmission=transmission, test=test, n_reference=n_reference, significance=significance,
            stop_at_first=stop_at_first, background=background, background_scale=background_scale,
            background_transmission=background_transmission, absolute_scale=absolute_scale, geometry=geometry,
            missing=missing, corrupt=corrupt,
        )  # fmt: skip

    def fly_scan_map(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self,
        *,
        scan_shape: tuple[int, int] | None = None,
        snake: bool = False,
        regions: Sequence[Rectangle] = (),
        labels: Any = None,
        moments: bool = True,
        mask: Any = None,
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Total counts, region counts and centre of mass of every frame on the grid of a raster scan.

        Parameters
        ----------
        scan_shape:
            Lines and points of a line; without it the axes of the file's NXdata say so.
        snake:
            Whether every second line runs backwards.
        regions, labels, mask:
            As in `frame_statistics`.
        moments:
            Whether the centre of mass is wanted.
        missing, corrupt, client, progress:
            As in `azimuthal`.

        Returns
        -------
        Signals total_counts, counts_<region>, centre_y and centre_x over the scan's axes; NaN where there is
        no frame.

        Raises
        ------
        LinkMissing, CorruptChunk, MaskShapeWrong, NoFrames, BadParameter, NothingLeft
        """
        return self.reduce(
            "fly_scan_map", client=client, progress=progress, scan_shape=scan_shape, snake=snake,
            regions=regions, labels=labels, moments=moments, mask=mask, missing=missing, corrupt=corrupt,
        )  # fmt: skip
