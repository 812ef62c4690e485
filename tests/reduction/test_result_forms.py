"""Results as xarray and scipp objects, plots of curves, maps and stacks, and what a notebook shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
import pytest
import scipp
from matplotlib import pyplot

import beamhub_reduction as br
from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.result import Result
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.synthetic import Truth

EDGES = Axis("d_spacing", "angstrom", np.linspace(1, 2, 6))
FRAME = Axis("frame", "", np.arange(4.0))


@pytest.fixture(autouse=True)
def agg() -> Iterator[None]:
    mpl.use("agg")
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def result(powder_truth: Truth) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BEAMHUB_SESSION_FILE", raising=False)
        return br.open_run(powder_truth.file).reduce(
            "azimuthal", bins=20, progress=silent, engine=Engine(threads=1, measure_limit=True)
        )


@pytest.fixture(scope="module")
def several(result: Result) -> Result:
    """A result with a curve over edges, a map and a stack."""
    counts = Signal("counts", np.arange(5), np.sqrt(np.arange(5.0)), "counts", (EDGES,))
    points = Axis("d_spacing", "angstrom", np.linspace(3, 4, 5))
    image = Signal("image", np.arange(20.0).reshape(4, 5), None, "zorkmids", (FRAME, points))
    axes = (Axis("time", "s", np.arange(3.0)), FRAME, EDGES)
    stack = Signal("stack", np.arange(60.0).reshape(3, 4, 5), None, "counts/uC", axes)
    return replace(result, signals=(counts, image, stack))


def test_xarray_has_units_uncertainties_and_centres(several: Result) -> None:
    data = several.to_xarray()
    assert data["counts"].dims == ("d_spacing",)
    assert data["counts"].attrs["units"] == "counts"
    np.testing.assert_allclose(data["d_spacing"], [1.1, 1.3, 1.5, 1.7, 1.9])
    np.testing.assert_array_equal(data["d_spacing_edges"], EDGES.values)
    np.testing.assert_allclose(data["counts_errors"] ** 2, np.arange(5))
    assert data["image"].dims == ("frame", "image_d_spacing")
    assert data["stack"].dims == ("time", "frame", "d_spacing")


def test_scipp_has_variances_units_and_bin_edges(several: Result) -> None:
    group = several.to_scipp()
    counts = group["counts"]
    assert (counts.unit, counts.coords.is_edges("d_spacing")) == (scipp.Unit("counts"), True)
    np.testing.assert_allclose(counts.variances, np.arange(5))
    assert counts.coords["d_spacing"].unit == scipp.Unit("angstrom")
    assert group["image"].unit is None
    assert group["stack"].unit == scipp.Unit("counts/uC")


def test_curves_maps_and_stacks_draw_themselves(several: Result) -> None:
    assert several.plot(log=True).get_yscale() == "log"
    axes = several.plot(signal="image", log=True)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("d (angstrom)", "frame")
    assert several.plot(signal="stack", at=2).get_title().endswith("time 2 of 3")
    assert several.plot(signal="stack").get_title().endswith("time 1 of 3")
    with pytest.raises(KeyError, match="counts, image, stack"):
        several.plot(signal="other")
    assert several._ipython_key_completions_() == ["counts", "image", "stack"]


def test_a_run_shows_its_header_and_lists_the_steps(powder_truth: Truth, outside_session: Path) -> None:
    run = br.open_run(powder_truth.file)
    shown = run._repr_html_()
    assert "MA-5101" in shown
    assert "pilatus" in shown
    steps = run.steps()
    assert {"azimuthal", "time_of_flight"} <= set(steps)
    assert "bins" in repr(steps)
    assert {p.name for p in steps["azimuthal"].parameters} >= {"bins", "unit", "missing"}
    assert "<code>" in steps._repr_html_()
    assert "cannot be read" in replace(run, file=__file__)._repr_html_()


def test_a_product_says_how_sure_and_how_fast_it_is(result: Result, tmp_path: Path) -> None:
    product = result.write(tmp_path / "p.nxs")
    with h5py.File(product.path) as file:
        told = json.loads(file["entry/process/evidence/data"].asstr()[()])
    assert told["frames"] == {"read": 12, "missing": 0, "corrupt": 0, "without_flux": 0}
    assert told["integrity"] == "not verifiable"
    assert told["index_digest"].startswith("sha256:")
    assert told["inputs"]["n_files"] == len(told["inputs"]["files"]) == 3
    assert "hdf5" not in told["rung"]["read_by"][0].lower()
    assert told["rung"]["kernels"][0] in ("avx512", "avx2", "plain", "numpy")
    assert told["limit"]["share"] > 0
    assert told["limit"]["decode_bytes_per_s"] > 1e6
    assert told["execution"]["units"] == result.execution.n_units
