"""Azimuthal integration as a call of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from beamhub_reduction.nexus.geometry import Geometry
from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.step import CorruptPolicy, MissingPolicy
from beamhub_reduction.result import Result
from beamhub_reduction.steps.azimuthal_matrix import Range, Split, Unit


class _Reduces(Protocol):
    def reduce(self, step: str, **parameters: Any) -> Result: ...


class AzimuthalSteps:
    """The azimuthal step of a Run."""

    def azimuthal(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self: _Reduces,
        *,
        bins: int = 1000,
        unit: Unit = "q_nm^-1",
        every: int | None = None,
        azimuth_bins: int = 0,
        split: Split = "full",
        q_range: Range | None = None,
        azimuth_range: Range | None = None,
        mask: Any = None,
        dark: Any = None,
        flat: Any = None,
        solid_angle: bool = True,
        polarisation: float | None = None,
        error_model: Literal["poisson", "none"] = "poisson",
        normalise: bool = True,
        poni: str | Path | None = None,
        geometry: Geometry | None = None,
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
        journal: str | Path | None = None,
    ) -> Result:
        """Intensity over q (or two-theta): of all frames together, or one curve for every few frames.

        Parameters
        ----------
        bins, azimuth_bins:
            Number of bins of equal width; with `azimuth_bins` a map over azimuth and q.
        unit:
            'q_nm^-1', 'q_A^-1', '2th_deg' or '2th_rad'.
        every:
            Frames of one curve: the result has a first axis 'frame'. None for one curve of all frames.
        split:
            'full', 'bbox' or 'no': how a pixel is shared among bins.
        q_range, azimuth_range:
            Limits of the axes, in `unit` and in degrees.
        mask:
            Pixels to leave out besides those the file names, shape (ny, nx), non-zero = masked.
        dark, flat:
            Images of shape (ny, nx) to subtract and to divide by. Each of the three is an array, the name
            of a file (.npy, .edf, .tif, ...) or 'FILE::/path' of a dataset; '::/path' is in the run's file.
            As flat, 'file' takes the detector's own flatfield, where it was not applied yet.
        solid_angle, polarisation:
            Whether to correct for the pixels' solid angle, and for which degree of horizontal polarisation.
        error_model:
            'poisson' for standard uncertainties of the mean (as pyFAI's `sem`), 'none' for none.
        normalise:
            Whether to divide by the entry's monitor, frame by frame.
        poni, geometry:
            A .poni file, or a geometry, used instead of the file's; not both.
        missing, corrupt:
            'fail' raises on a missing linked file or an undecodable chunk; 'skip' leaves those frames out,
            counts them and names them in `result.warnings`; 'mask' leaves only the pixels of the chunk out.
        client, progress, journal:
            As in `reduce`.

        Raises
        ------
        LinkMissing, CorruptChunk, GeometryMissing, MaskShapeWrong, FrameCountError, NoFrames, BadParameter,
        NothingLeft
        """
        return self.reduce(
            "azimuthal", client=client, progress=progress, journal=journal, bins=bins, unit=unit, every=every,
            azimuth_bins=azimuth_bins, split=split, q_range=q_range, azimuth_range=azimuth_range, mask=mask,
            dark=dark, flat=flat, solid_angle=solid_angle, polarisation=polarisation, error_model=error_model,
            normalise=normalise, poni=None if poni is None else str(poni), geometry=geometry, missing=missing,
            corrupt=corrupt,
        )  # fmt: skip
