"""The template notebooks: stored clean, and they find what was planted when they are executed."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from beamhub_core.techniques import LABELS
from beamhub_reduction import open_run
from beamhub_reduction.synthetic import (
    TofOptions,
    Truth,
    write_dangling_link_file,
    write_powder_scan,
    write_tof_run,
    write_tomography_scan,
    write_xrf_map,
)
from beamhub_reduction.synthetic.saxs import SaxsTruth, write_saxs_runs
from beamhub_reduction.synthetic.tomography import TomographyTruth
from beamhub_reduction.synthetic.xfel import XfelOptions, XfelTruth, write_xfel_run
from beamhub_reduction.synthetic.xrf import XrfTruth
from beamhub_session.parameters import fill_parameters

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEMPLATES = sorted(NOTEBOOKS.glob("*/*.ipynb"))
CELL_TIMEOUT_S = 120


def read_template(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / name / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def parameters_cell(notebook: Any) -> Any:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    return cell


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_a_template_is_stored_clean(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    names = [
        statement.targets[0].id
        for statement in ast.parse(parameters_cell(notebook).source).body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    ]
    assert names[0] == "dataset"
    last = notebook.cells[-1].source
    assert ".write()" in last
    assert 'print("file:", product.path)' in last


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_a_template_uses_the_public_interface_only(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    imported = set(re.findall(r"^(?:import|from) ([\w.]+)", source, flags=re.MULTILINE))
    assert imported <= {"numpy", "matplotlib", "beamhub_reduction", "beamhub_reduction.nexus"}
    if file.stem.startswith("gpu_"):
        assert "import cupy" in source
    else:
        assert "cupy" not in source
    assert not re.search(r"[\"']/|token|os\.|!pip|%pip", source)


def test_every_template_of_the_folder_is_executed_here() -> None:
    assert [file.parent.name for file in TEMPLATES] == [
        "gpu_azimuthal",
        "powder_diffraction",
        "saxs",
        "tof_powder_diffraction",
        "tomography",
        "xfel_pulses",
        "xrf_map",
    ]
    assert len(LABELS) >= len(TEMPLATES)


@dataclass(frozen=True)
class Facts:
    """What was planted for the templates, by the name of the run that is made of it."""

    powder: Truth
    broken: Truth
    tof: Truth
    saxs: SaxsTruth
    tomography: TomographyTruth
    xrf: XrfTruth
    xfel: XfelTruth


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(scope="module")
def facts(pool: Path) -> Facts:
    folders = {name: pool / name for name in ("saxs", "tomography", "xrf")}
    for folder in folders.values():
        folder.mkdir()
    return Facts(
        write_powder_scan(pool / "powder", proposal="MA-1", sample="new", seed=17, n_frames=16),
        write_dangling_link_file(pool / "broken", proposal="MA-1", sample="LaB6", seed=2),
        write_tof_run(
            pool / "tof",
            proposal="TO-1",
            sample="Si",
            seed=17,
            n_events=500_000,
            options=TofOptions(n_pulses=600),
        ),
        write_saxs_runs(folders["saxs"], seed=5, n_frames=12, first_damaged=9),
        write_tomography_scan(folders["tomography"], seed=5),
        write_xrf_map(folders["xrf"], seed=5),
        write_xfel_run(pool / "xfel", seed=5, options=XfelOptions(shape=(64, 32), missing=((1, 3),))),
    )


@pytest.fixture(scope="module")
def executed(facts: Facts, pool: Path) -> Mapping[str, Any]:
    """Every template as a notebook with its outputs; they share a kernel, which forgets all in between."""
    damaged = facts.saxs
    runs: dict[str, tuple[str, dict[str, Any]]] = {
        "powder": ("powder_diffraction", {"dataset": facts.powder.file, "bins": 1200}),
        "broken": (
            "powder_diffraction",
            {"dataset": facts.broken.file, "missing": "skip", "every": 4},
        ),
        "tof": ("tof_powder_diffraction", {"dataset": facts.tof.file}),
        "saxs": (
            "saxs",
            {
                "dataset": str(damaged.sample),
                "bins": 60,
                "background": str(damaged.background),
                "transmission": "/entry/sample/transmission",
            },
        ),
        "tomography": ("tomography", {"dataset": facts.tomography.file, "volume": "volume.nxs"}),
        "xrf": ("xrf_map", {"dataset": facts.xrf.file}),
        "xfel": (
            "xfel_pulses",
            {"dataset": str(facts.xfel.file), "constants": str(facts.xfel.constants)},
        ),
        "gpu": ("gpu_azimuthal", {"dataset": str(damaged.sample), "bins": 60}),
        # The last one, since the kernel keeps what it has imported.
        "device double": ("gpu_azimuthal", {"dataset": str(damaged.sample), "bins": 60}),
    }
    write_cupy_double(pool / "home" / "device double")
    return execute(runs, pool)


def write_cupy_double(folder: Path) -> None:
    """Modules with the names of CuPy that NumPy and SciPy stand behind; Python finds them in the folder."""
    (folder / "cupyx" / "scipy").mkdir(parents=True)
    (folder / "cupyx" / "scipy" / "sparse.py").write_text("from scipy.sparse import csr_matrix\n")
    (folder / "cupy.py").write_text(
        "from types import SimpleNamespace\n"
        "from numpy import *\n"
        "from numpy import asarray as asnumpy\n"
        "about = SimpleNamespace(getDeviceProperties=lambda i: {'name': b'no device'})\n"
        "cuda = SimpleNamespace(runtime=about)\n"
    )


def execute(runs: Mapping[str, tuple[str, dict[str, Any]]], folder: Path) -> dict[str, Any]:
    """Run templates one after the other, without any hub, each in a working folder of its own.

    An error ends the template that has it; the test of that template sees it.
    """
    home = folder / "home"
    whole = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebooks = {}
    for key, (name, values) in runs.items():
        notebook = read_template(name)
        cell = parameters_cell(notebook)
        cell.source = fill_parameters(cell.source, values)
        notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        (home / key).mkdir(parents=True, exist_ok=True)
        begin = f"%reset -f\nimport os, sys\nos.chdir({str(home / key)!r})\nsys.path[:0] = ['']\ndel os, sys"
        whole.cells += [nbformat.v4.new_code_cell(begin), *notebook.cells]  # type: ignore[no-untyped-call]
        notebooks[key] = notebook
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("BEAMHUB", "JUPYTERHUB"))}
    client = NotebookClient(
        whole,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(home)}},
    )
    client.execute(env={**plain, "HOME": str(home), "MPLCONFIGDIR": str(folder / "matplotlib")})
    return notebooks


def printed(notebook: Any) -> str:
    """What was printed; fails on the first error of the template."""
    text = ""
    for cell in notebook.cells:
        for output in cell.outputs:
            if output.output_type == "error":
                pytest.fail(f"{output.ename}: {output.evalue} in\n{cell.source}")
            if output.output_type == "stream" and output.name == "stdout":
                text += output.text
    return text


def n_pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.outputs)


def number_after(notebook: Any, words: str) -> float:
    found = re.search(re.escape(words) + r" *([-+0-9.e]+)", printed(notebook))
    assert found is not None, printed(notebook)
    return float(found[1])


def product_of(notebook: Any) -> Path:
    found = re.search(r"^file: (.+)$", printed(notebook), flags=re.MULTILINE)
    assert found is not None, printed(notebook)
    return Path(found[1])


def table_of(notebook: Any) -> list[float]:
    """The first column of the peaks table."""
    return [float(row) for row in re.findall(r"^ +(\d+\.\d+) ", printed(notebook), flags=re.MULTILINE)]


def assert_found(truth: Truth, positions: list[float], tolerance: float) -> None:
    """Every planted peak has one of the positions beside it."""
    for planted in truth.peaks:
        assert min(abs(found / planted - 1) for found in positions) < tolerance, (planted, positions)


def assert_product_holds(truth: Truth, product: Path, *, axis: str, step: float) -> None:
    """The written product has its highest points near the planted peaks, and the exact counts."""
    with h5py.File(product, "r") as file:
        data = file["entry/data"]
        x, y = data[axis][()], data[data.attrs["signal"]][()]
        statistics = file["entry/process/statistics"]
        assert statistics["counts_total"][()] == truth.counts_total
        assert statistics["n_pixels_masked"][()] == truth.n_pixels_masked
    for planted in truth.peaks:
        near = np.flatnonzero(np.abs(x / planted - 1) < 0.01)
        assert abs(x[near[np.nanargmax(y[near])]] - planted) < max(step, 0.004 * planted)


def test_the_powder_template_finds_the_planted_rings(
    executed: Mapping[str, Any], facts: Facts, pool: Path
) -> None:
    notebook, truth = executed["powder"], facts.powder
    positions = table_of(notebook)
    assert n_pictures(notebook) == 2
    assert len(positions) == len(truth.peaks)
    assert_found(truth, positions, 0.003)
    product = product_of(notebook)
    assert product.is_relative_to(pool / "home")
    assert_product_holds(truth, product, axis="q", step=0.06)


def test_the_powder_template_reduces_what_is_left_of_a_broken_scan(
    executed: Mapping[str, Any], facts: Facts
) -> None:
    notebook, truth = executed["broken"], facts.broken
    assert "MISSING: ../detector_LaB6_0001/pilatus_0001.h5" in printed(notebook)
    assert n_pictures(notebook) == 3  # the curves of every few frames too
    with h5py.File(product_of(notebook), "r") as file:
        statistics = file["entry/process/statistics"]
        assert statistics["n_frames_read"][()] == truth.n_frames
        assert statistics["n_frames_missing"][()] == truth.n_frames_missing
        assert statistics["counts_total"][()] == truth.counts_total


def test_the_time_of_flight_template_finds_the_planted_lines(
    executed: Mapping[str, Any], facts: Facts
) -> None:
    notebook, truth = executed["tof"], facts.tof
    assert_found(truth, table_of(notebook), 0.003)
    assert n_pictures(notebook) == 2
    product = product_of(notebook)
    assert_product_holds(truth, product, axis="d_spacing", step=0.004)
    with h5py.File(product, "r") as file:
        statistics = file["entry/process/statistics"]
        assert statistics["n_pulses"][()] == truth.pulses
        assert statistics["n_empty_pulses"][()] == truth.empty_pulses


def test_the_saxs_template_finds_the_planted_radius_and_the_damaged_frames(
    executed: Mapping[str, Any], facts: Facts
) -> None:
    notebook, truth = executed["saxs"], facts.saxs
    assert f"{truth.first_damaged} of {truth.n_frames} frames used" in printed(notebook)
    assert number_after(notebook, "Rg =") == pytest.approx(truth.radius_nm, rel=0.02)
    assert number_after(notebook, "I(0) =") == pytest.approx(truth.level, rel=0.02)
    assert n_pictures(notebook) == 3
    with h5py.File(product_of(notebook), "r") as file:
        data = file["entry/data"]
        q, y, sigma = (data[name][()] for name in ("q", "intensity", "intensity_errors"))
    expected = truth.level * np.exp(-((q * truth.radius_nm) ** 2) / 3)
    good = np.isfinite(y)
    assert np.mean(((y - expected) / sigma)[good] ** 2) < 2


def test_the_tomography_template_gives_the_planted_attenuation(
    executed: Mapping[str, Any], facts: Facts, pool: Path
) -> None:
    notebook, truth = executed["tomography"], facts.tomography
    assert f"{len(truth.angles_deg)} projections" in printed(notebook)
    assert number_after(notebook, "scatter") < 1
    assert n_pictures(notebook) == 3
    with h5py.File(product_of(notebook), "r") as file:
        mean = file["entry/data/attenuation"][()]
    alive = np.isfinite(mean) & ~truth.dead
    np.testing.assert_allclose(mean[alive], truth.attenuation.mean(axis=0)[alive], atol=0.05)
    assert (pool / "home" / "tomography" / "volume.nxs").exists()


def test_the_fluorescence_template_maps_the_planted_amounts(
    executed: Mapping[str, Any], facts: Facts
) -> None:
    notebook, truth = executed["xrf"], facts.xrf
    assert f"{truth.spectra.shape[0] * truth.monitor.size} spectra" in printed(notebook)
    assert n_pictures(notebook) == 2
    with h5py.File(product_of(notebook), "r") as file:
        for line, amounts in truth.amounts.items():
            found = file[f"entry/{line}/{line}"] if line in file["entry"] else file[f"entry/data/{line}"]
            values = found[()]
            np.testing.assert_allclose(values / values.mean(), amounts, atol=0.35)
            assert np.ptp(amounts) == 0 or np.corrcoef(values.ravel(), amounts.ravel())[0, 1] > 0.95


def test_the_xfel_template_gives_the_planted_pulses_of_complete_trains(
    executed: Mapping[str, Any], facts: Facts
) -> None:
    notebook, truth = executed["xfel"], facts.xfel
    assert f"{truth.complete.sum()} of {truth.trains.size} trains used, 1 incomplete" in printed(notebook)
    assert n_pictures(notebook) == 3
    with h5py.File(product_of(notebook), "r") as file:
        pulses = file["entry/pulse_intensity/pulse_intensity"][()]
    good = np.count_nonzero(truth.bad == 0) / truth.pulses.size
    expected = truth.signal[truth.complete] * truth.pattern.mean() * good
    np.testing.assert_allclose(pulses, expected, rtol=0.01)


@pytest.mark.parametrize("key", ["gpu", "device double"])
def test_the_gpu_template_says_its_path_and_gives_the_engines_curves(
    executed: Mapping[str, Any], facts: Facts, key: str
) -> None:
    notebook, truth = executed[key], facts.saxs
    assert ("CuPy on no device" in printed(notebook)) == (key == "device double")
    assert re.search(r"^path: (CuPy on .+|NumPy on the processor)$", printed(notebook), re.MULTILINE)
    assert ("agree to 1e-09" in printed(notebook)) == (key == "device double")
    assert n_pictures(notebook) == 2
    engine = open_run(truth.sample).azimuthal(bins=60, every=1, progress=lambda *_: None).signal
    with h5py.File(product_of(notebook), "r") as file:
        np.testing.assert_allclose(file["entry/data/intensity"][()], engine.values, rtol=1e-10)
        assert file["entry/process/statistics/n_frames_read"][()] == truth.n_frames
