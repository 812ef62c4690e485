"""The event and pulse reductions of a run, as methods with their parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.step import CorruptPolicy

if TYPE_CHECKING:
    from beamhub_reduction.result import Result


class _Reducible(Protocol):
    def reduce(
        self, step: str, *, client: Client | None = None, progress: ProgressCallback | None = None,
        **parameters: Any,
    ) -> Result: ...  # fmt: skip


class EventSteps:
    """Reductions of neutron events, of histograms over time of flight, and of XFEL pulses."""

    def time_of_flight(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self: _Reducible,
        *,
        axis: str = "d",
        bins: int | None = None,
        bin_width: float | None = None,
        log: bool = False,
        edges: Any = None,
        axis_range: tuple[float, float] | None = None,
        d_range: tuple[float, float] | None = None,
        pulses: tuple[float, float] | None = None,
        normalise: bool = True,
        normalise_to: str = "charge",
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Counts over lattice spacing (or wavelength, or time) of the neutron events of all banks together.

        Parameters
        ----------
        axis:
            'd' or 'wavelength' in angstrom, 'tof' in microseconds; the last needs no geometry.
        bins:
            Number of bins, 1000 unless `bin_width` or `edges` say otherwise.
        bin_width:
            Width of a bin in the axis's unit; with `log` the relative width.
        log:
            Bins of equal ratio instead of equal width.
        edges:
            All edges of the bins, ascending; the last bin includes its upper edge.
        axis_range, d_range:
            Smallest and largest value in the axis's unit (`d_range`: of the axis 'd'); without it the bins
            span all events.
        pulses:
            Only pulses of this window, in seconds after the first pulse, its end excluded.
        normalise:
            Whether to divide by the beam that came.
        normalise_to:
            'charge' (proton charge in uC), 'monitor' (its counts), 'monitor_spectrum' (its counts in each
            bin, on the axes 'tof' and 'wavelength'), 'pulses' (their number).
        corrupt, client, progress:
            As in `azimuthal`.

        Raises
        ------
        NoEvents, EventsInvalid, GeometryMissing, UnitUnknown, CorruptChunk, BadParameter, NothingLeft
        """
        return self.reduce(
            "time_of_flight", client=client, progress=progress, axis=axis, bins=bins, bin_width=bin_width,
            log=log, edges=_numbers(edges), axis_range=axis_range, d_range=d_range, pulses=pulses,
            normalise=normalise, normalise_to=normalise_to, corrupt=corrupt,
        )  # fmt: skip

    def event_map(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self: _Reducible,
        *,
        bank: str | None = None,
        axis: str = "tof",
        bins: int | None = None,
        bin_width: float | None = None,
        log: bool = False,
        edges: Any = None,
        axis_range: tuple[float, float] | None = None,
        pulses: tuple[float, float] | None = None,
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Counts of every pixel over time of flight: one signal for each detector, in the detector's shape.

        Parameters
        ----------
        bank:
            Only the detector of this name.
        axis, bins, bin_width, log, edges, axis_range, pulses, corrupt, client, progress:
            As in `time_of_flight`. The counts are exact and not normalised; their errors are square roots.

        Raises
        ------
        NoEvents, EventsInvalid, GeometryMissing, UnitUnknown, CorruptChunk, BadParameter, NothingLeft
        """
        return self.reduce(
            "event_map", client=client, progress=progress, bank=bank, axis=axis, bins=bins,
            bin_width=bin_width, log=log, edges=_numbers(edges), axis_range=axis_range, pulses=pulses,
            corrupt=corrupt,
        )  # fmt: skip

    def tof_histogram(
        self: _Reducible,
        *,
        bank: str | None = None,
        axis: str = "tof",
        normalise_to: str | None = None,
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
        **bins: Any,
    ) -> Result:
        """Counts of every detector that was histogrammed over time of flight, one signal for each.

        Parameters
        ----------
        bank:
            Only the detector of this name.
        axis:
            'tof' keeps the file's bins, exactly; 'd' and 'wavelength' share each bin's counts evenly among
            the new bins that it overlaps, pixel by pixel.
        normalise_to:
            'charge', 'monitor' or 'monitor_spectrum' as in `time_of_flight`; without it counts stay counts.
        bins:
            For 'd' and 'wavelength': `bins`, `bin_width`, `log`, `edges`, `axis_range` as in
            `time_of_flight`.
        corrupt, client, progress:
            As in `azimuthal`.

        Raises
        ------
        NoEvents, EventsInvalid, GeometryMissing, UnitUnknown, CorruptChunk, BadParameter, NothingLeft
        """
        return self.reduce(
            "tof_histogram", client=client, progress=progress, bank=bank, axis=axis,
            normalise_to=normalise_to, corrupt=corrupt, **bins,
        )  # fmt: skip

    def xfel_pulses(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self: _Reducible,
        *,
        trains: str = "all",
        constants: str | None = None,
        geometry: str | None = None,
        energy_kev: float | None = None,
        bins: int = 500,
        q_range: tuple[float, float] | None = None,
        solid_angle: bool = True,
        corrupt: CorruptPolicy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Mean image, intensities of pulses and modules, and with a geometry curves over q, of an XFEL run.

        The run was opened by any one of its files; those of the other modules and sequences lie beside it.

        Parameters
        ----------
        trains:
            Pulses that 'all' modules have, or that 'any' module has.
        constants:
            HDF5 file with module_N/offset, gain and bad_pixels, each of shape ([n_stages,] n_cells, ny, nx):
            a corrected value is (raw - offset) * gain. Without it nothing is corrected. With gain stages, a
            pixel is in the last one whose module_N/threshold (n_stages - 1, n_cells, ny, nx) its gain value
            exceeds; without thresholds the gain value is the stage's number.
        geometry:
            HDF5 file with module_N/positions (ny, nx, 3), metres from the sample, z along the beam, and
            photon_energy: adds the mean value of all modules' pixels over q for every pulse ('azimuthal'),
            and the number of values in it ('azimuthal_n').
        energy_kev:
            Photon energy, where the geometry does not say it.
        bins, q_range, solid_angle:
            Bins of equal width between two q in nm^-1; whether to divide by the pixels' solid angle.
        corrupt, client, progress:
            As in `azimuthal`.

        Raises
        ------
        XfelRunInvalid, CorruptChunk, BadParameter, NothingLeft
        """
        return self.reduce(
            "xfel_pulses", client=client, progress=progress, trains=trains, constants=constants,
            geometry=geometry, energy_kev=energy_kev, bins=bins, q_range=q_range, solid_angle=solid_angle,
            corrupt=corrupt,
        )  # fmt: skip


def _numbers(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)
