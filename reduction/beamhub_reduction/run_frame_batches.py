"""Frames and the azimuthal matrix for people's own code: batches of decoded frames, SciPy's sparse matrix."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse

from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_core.techniques import POWDER_DIFFRACTION, X_RAY_PROBE
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.nexus import Header
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack
from beamhub_reduction.nexus.geometry import Geometry, read_monitor
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.azimuthal import build_signal, frame_weights
from beamhub_reduction.pipeline.azimuthal_input import Choices, matrix_of, read_input
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.frames import BATCH_FRAMES, FrameBatch, FrameTally, frame_batches
from beamhub_reduction.pipeline.inputs import inputs_of
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import CorruptPolicy, MissingPolicy, Reduced, StepKind, StepParameters
from beamhub_reduction.pipeline.units import FrameUnit, plan_frame_units
from beamhub_reduction.result import Result
from beamhub_reduction.steps.azimuthal_matrix import AzimuthalMatrix, Binning, Range, Split, Unit
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.signal import Signal

MAX_BATCH = 4096


@dataclass(frozen=True)
class PixelMatrix:
    """Azimuthal integration as a sparse matrix, for any library that multiplies one.

    With frames as columns, `values` of shape (n_pixels, n_frames) and only valid ones among them:
    intensity = (shares @ values) / (shares @ normalisation), with shares**2 @ max(values, 1) as the variance
    of the numerator for counts. Source: pyFAI, doi 10.1107/S1600576715004306.

    `shares` (n_bins, n_pixels) float64: which share of a pixel falls into a bin; masked pixels have none.
    `normalisation` (n_pixels,): solid angle, polarisation and flat. Values outside `valid`, both ends
    included, are the detector's 'no value': leave them out of both sums.
    """

    shares: scipy.sparse.csr_matrix
    normalisation: FloatArray
    valid: tuple[float, float]
    n_pixels_masked: int
    _matrix: AzimuthalMatrix = field(repr=False)

    @property
    def centres(self) -> FloatArray:
        """Centres of the bins, shape (n_bins,), in `unit`."""
        return self._matrix.centres

    @property
    def unit(self) -> str:
        """'q_nm^-1' or the other one that was asked for."""
        return self._matrix.unit

    def signal(self, intensity: FloatArray, errors: FloatArray | None = None) -> Signal:
        """Intensities (n_bins,), or (n_frames, n_bins), as a signal over the bins, ready for a result.

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        every = None if np.ndim(intensity) == 1 else 1
        rows = np.atleast_2d(np.asarray(intensity, dtype=np.float64))
        sigma = None if errors is None else np.atleast_2d(np.asarray(errors, dtype=np.float64))
        return build_signal(self._matrix, rows, sigma, every=every)


class _Run(Protocol):
    file: str
    dataset: str | None
    planned: PlannedDataset | None
    session: SessionInfo | None

    @property
    def header(self) -> Header: ...


class RunFrames:
    """The frames of a run in batches; go over it once for each pass. Not thread-safe.

    Each batch has `data` (n, ny, nx) in the file's type and its own memory, `weights` (n,), the flux of each
    frame relative to the reference, `numbers` (n,), their places in the run, and `blank`, None or True where
    nothing could be decoded. Frames without flux are left out and counted.
    """

    def __init__(self, run: _Run, stack: FrameStack, weights: FloatArray, how: tuple[CorruptPolicy, int]):
        self._run, self._stack = run, stack
        self._corrupt, self._batch = how
        self._units: tuple[FrameUnit, ...] = plan_frame_units(stack, weights=weights)
        self._tally, self._began = FrameTally(), time.monotonic()

    @property
    def n_frames(self) -> int:
        """Frames of the run, with those that are missing."""
        return self._stack.n_frames

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of a frame."""
        return self._stack.shape

    def __iter__(self) -> Iterator[FrameBatch]:
        """The batches, in the order of the frames.

        Raises
        ------
        CorruptChunk
            If a chunk cannot be decoded and the policy is to fail.
        FilesChanged, MemoryTooSmall
        """
        self._tally, self._began = FrameTally(), time.monotonic()
        for unit in self._units:
            for batch in frame_batches(
                unit, shape=self._stack.shape, corrupt=self._corrupt, batch=self._batch
            ):
                self._tally += batch.tally
                if len(batch.data):
                    yield replace(batch, data=batch.data.copy())

    def result(
        self,
        signals: Sequence[Signal],
        *,
        step: str,
        title: str,
        parameters: Mapping[str, Any] | None = None,
        ran_on: str = "",
        matrix: PixelMatrix | None = None,
    ) -> Result:
        """What your own code made of these frames, as a result with plot, history and product.

        Parameters
        ----------
        signals:
            The first is the default plot.
        step, title:
            A name without blanks, and the name in words.
        parameters:
            What you chose; JSON values, kept in the product.
        ran_on:
            What did the sums, for the product's evidence.
        matrix:
            The one that was used, if one was.

        Raises
        ------
        NothingLeft
            If no frame was read in the last pass.
        BadParameter
            If there is no signal, or `step` is no plain word.
        """
        if not signals:
            raise BadParameter("signals", "none", "one or more")
        if not step.replace("_", "").isalnum() or not step.isascii():
            raise BadParameter("step", step, "letters, digits and underscores")
        if not self._tally.n_read:
            raise NothingLeft(self._run.file, "frames")
        wall_s = time.monotonic() - self._began
        notes = tuple(str(error) for error in self._stack.missing)
        reduced = Reduced(
            tuple(signals),
            self._statistics(matrix),
            Execution(
                len(self._units), wall_s, None, 1, inputs=inputs_of(self._units), kernels=(ran_on or step,)
            ),
            {"entry": self._stack.entry, "detector": self._stack.detector, **(parameters or {})},
            (*notes, *self._tally.problems),
        )
        technique = POWDER_DIFFRACTION if matrix is not None else X_RAY_PROBE
        kind = StepKind(step, title, technique, StepParameters, _not_a_step)
        return Result.of(reduced, kind, self._run.header, self._run.planned, self._run.session)

    def _statistics(self, matrix: PixelMatrix | None) -> Statistics:
        tally = self._tally
        return Statistics(
            n_frames_read=tally.n_read,
            n_frames_missing=self._stack.n_missing + tally.n_unwritten,
            n_frames_corrupt=tally.n_corrupt,
            n_frames_without_flux=tally.n_without_flux,
            n_pixels_masked=matrix.n_pixels_masked if matrix else 0,
        )


def _not_a_step(*_: Any) -> Reduced:
    raise NotImplementedError("a result of own code cannot be made again by the engine")


class FrameBatches:
    """Frames and matrix of a Run, for own code."""

    def frames(
        self: _Run,
        *,
        batch: int = BATCH_FRAMES,
        normalise: bool = True,
        missing: MissingPolicy = "fail",
        corrupt: CorruptPolicy = "fail",
    ) -> RunFrames:
        """All frames, decoded, in batches of at most `batch`; read while you go over them.

        Parameters
        ----------
        normalise:
            Whether `weights` are the monitor's readings over their reference; else they are 1.
        missing, corrupt:
            As in `azimuthal`.

        Raises
        ------
        LinkMissing, FrameCountError, NoFrames, NothingLeft, BadParameter
        """
        if not 1 <= batch <= MAX_BATCH:
            raise BadParameter("batch", batch, f"from 1 to {MAX_BATCH}")
        with NexusFile(self.file, None) as nexus:
            stack = read_frame_stack(nexus, self.dataset)
            if stack.missing and missing == "fail":
                raise stack.missing[0]
            monitor = read_monitor(nexus, stack.entry) if normalise else None
        if stack.n_present == 0 or 0 in stack.shape:
            raise NothingLeft(self.file, "frames")
        weights, _ = frame_weights(stack, monitor)
        return RunFrames(self, stack, weights, (corrupt, batch))

    def azimuthal_matrix(  # noqa: PLR0913  # the options of the pixels, as in azimuthal
        self: _Run,
        *,
        bins: int = 1000,
        unit: Unit = "q_nm^-1",
        split: Split = "full",
        q_range: Range | None = None,
        azimuth_range: Range | None = None,
        mask: Any = None,
        flat: Any = None,
        solid_angle: bool = True,
        polarisation: float | None = None,
        poni: str | Path | None = None,
        geometry: Geometry | None = None,
    ) -> PixelMatrix:
        """The matrix that `azimuthal` applies, with the same parameters; float64, in SciPy's row form.

        Raises
        ------
        GeometryMissing, MaskShapeWrong, NoFrames, BadParameter
        """
        chosen = Choices(
            geometry, None if poni is None else str(poni), mask, None, flat, solid_angle, polarisation
        )
        found = read_input(self.file, self.dataset, chosen, missing="skip", roots=None)
        matrix = matrix_of(found, Binning(bins, unit, 0, split, q_range, azimuth_range), None)
        pixels = matrix.pixels
        n_masked = int(pixels.good.size - np.count_nonzero(pixels.good))
        return PixelMatrix(pixels.tiles.rows, pixels.norm, (pixels.low, pixels.high), n_masked, matrix)
