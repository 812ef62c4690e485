"""Every step gives the same bits with workers of any number and kind, and on every path of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from beamhub_reduction import kernels
from beamhub_reduction.cluster import connect
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import Run, open_run
from beamhub_reduction.synthetic.fly_scan import write_fly_scan
from beamhub_reduction.synthetic.saxs import write_saxs_runs
from beamhub_reduction.synthetic.tof_layouts import draw_sample, write_event_layout
from beamhub_reduction.synthetic.tomography import TomographyOptions, write_tomography_scan
from beamhub_reduction.synthetic.xfel import XfelOptions, write_xfel_run
from beamhub_reduction.synthetic.xrf import XrfOptions, write_xrf_map
from reduction.bad_files import BITSHUFFLE_LZ4, draw_frames, write_stack

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside_session_of_module")]


@dataclass(frozen=True)
class Case:
    """A step, the file that it reduces and its parameters."""

    run: Run
    parameters: dict[str, Any]


def frame_cases(folder: Path) -> dict[str, Case]:
    stack = open_run(write_stack(folder / "stack.h5", draw_frames((37, 24, 20)), **BITSHUFFLE_LZ4))
    saxs = write_saxs_runs(folder, seed=3, n_frames=6, first_damaged=5)
    return {
        "azimuthal": Case(stack, {"bins": 40, "polarisation": 0.99}),
        "frame_statistics": Case(stack, {"sigma_clip": 4, "regions": ["a=2:9,3:12"]}),
        "saxs": Case(open_run(saxs.sample), {"bins": 30, "background": str(saxs.background)}),
        "fly_scan_map": Case(open_run(write_fly_scan(folder, seed=3, shape=(3, 5)).file), {}),
    }


def other_cases(folder: Path) -> dict[str, Case]:
    tomo = write_tomography_scan(
        folder, seed=1, options=TomographyOptions(n_projections=21, shape=(6, 8), flats_every=9)
    )
    xrf = write_xrf_map(folder, seed=1, options=XrfOptions(shape=(3, 5), n_channels=700))
    events = write_event_layout(folder / "sns.nxs", "sns", draw_sample(seed=8, n_events=3000, n_pulses=40))
    xfel = write_xfel_run(folder / "xfel", seed=1, options=XfelOptions(shape=(16, 8)))
    window = {"axis_range": (0.0, 20_000.0), "bins": 64}
    return {
        "tomography": Case(open_run(tomo.file), {}),
        "xrf_map": Case(open_run(xrf.file), {"rois": ("Ca=3.4:3.95",)}),
        "time_of_flight": Case(open_run(events), {"axis": "tof", "normalise": False, **window}),
        "event_map": Case(open_run(events), window),
        "xfel_pulses": Case(open_run(xfel.file), {"constants": str(xfel.constants)}),
    }


NAMES = (
    "azimuthal", "frame_statistics", "saxs", "fly_scan_map", "tomography", "xrf_map", "time_of_flight",
    "event_map", "xfel_pulses",
)  # fmt: skip


@pytest.fixture(scope="module")
def outside_session_of_module() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BEAMHUB_SESSION_FILE", "BEAMHUB_WEB_URL", "JUPYTERHUB_API_TOKEN"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, outside_session_of_module: None) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("every_step")
    (folder / "xfel").mkdir()
    return frame_cases(folder) | other_cases(folder)


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    """Two workers in processes of their own."""
    with connect(2, processes=True) as client:
        yield client


def bits(case: Case, name: str, **how: Any) -> list[bytes]:
    result = case.run.reduce(name, progress=silent, **case.parameters, **how)
    return [a.tobytes() for s in result.signals for a in (s.values, s.errors) if a is not None]


@pytest.mark.parametrize("name", NAMES)
def test_threads_clusters_and_kernels_give_the_same_bits(
    name: str, cases: dict[str, Case], client: Client, processes: Client
) -> None:
    case = cases[name]
    expected = bits(case, name, engine=Engine(threads=1))
    ways: dict[str, Callable[[], list[bytes]]] = {
        "2 threads": lambda: bits(case, name, engine=Engine(threads=2)),
        "3 threads": lambda: bits(case, name, engine=Engine(threads=3)),
        "Dask threads": lambda: bits(case, name, client=client),
        "Dask processes": lambda: bits(case, name, client=processes),
    }
    assert [way for way, run in ways.items() if run() != expected] == []
    for path in kernels.available_paths():
        with kernels.using_path(path):
            assert bits(case, name) == expected, path


def test_the_frames_that_are_read_at_once_do_not_change_a_number(
    cases: dict[str, Case], tmp_path: Path
) -> None:
    """Chunks of one frame, of some and of all: read, decoded and handed on in other batches and units.

    Whole numbers stay the same bits; floating-point sums of other units are added in another order.
    """
    frames = draw_frames((37, 24, 20))
    counts, curve = cases["frame_statistics"], cases["azimuthal"]
    expected = curve.run.reduce("azimuthal", progress=silent, **curve.parameters).signal.values
    for n in (5, 16, 37):
        run = open_run(write_stack(tmp_path / f"{n}.h5", frames, chunks=(n, 24, 20), **BITSHUFFLE_LZ4))
        assert bits(Case(run, counts.parameters), "frame_statistics") == bits(counts, "frame_statistics")
        found = run.reduce("azimuthal", progress=silent, **curve.parameters).signal.values
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_bits_tell_a_different_result(cases: dict[str, Case]) -> None:
    mask = np.zeros((24, 20))
    mask[3, 4] = 1
    other = Case(cases["azimuthal"].run, {**cases["azimuthal"].parameters, "mask": mask})
    assert bits(other, "azimuthal") != bits(cases["azimuthal"], "azimuthal")
