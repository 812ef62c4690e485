"""The template notebooks: stored clean, and they find what was planted when they are executed."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import h5py
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from beamhub_core.techniques import LABELS
from beamhub_reduction.synthetic import (
    TofOptions,
    Truth,
    write_dangling_link_file,
    write_powder_scan,
    write_tof_run,
)
from beamhub_session.parameters import fill_parameters

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
    assert names[:2] == ["dataset", "bins"]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_a_template_uses_the_public_interface_only(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    imported = set(re.findall(r"^(?:import|from) ([\w.]+)", source, flags=re.MULTILINE))
    assert imported <= {"numpy", "matplotlib", "beamhub_reduction", "beamhub_reduction.nexus"}
    assert not re.search(r"[\"']/|token|os\.|!pip|%pip", source)


def test_every_template_of_the_folder_has_a_technique_we_name() -> None:
    assert [file.parent.name for file in TEMPLATES] == ["powder_diffraction", "tof_powder_diffraction"]
    assert len(LABELS) >= len(TEMPLATES)


def execute(name: str, folder: Path, **values: str | int) -> Any:
    """Run a template in a kernel of its own, without any hub, in a home of its own; returns the notebook."""
    notebook = read_template(name)
    cell = parameters_cell(notebook)
    cell.source = fill_parameters(cell.source, dict(values))
    home = folder / "home"
    home.mkdir()
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("BEAMHUB", "JUPYTERHUB"))}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(home)}},
    )
    client.execute(env={**plain, "HOME": str(home), "MPLCONFIGDIR": str(folder / "matplotlib")})
    return notebook


def printed(notebook: Any) -> str:
    return "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def n_pictures(notebook: Any) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


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


def test_the_powder_template_finds_the_planted_rings(tmp_path: Path) -> None:
    truth = write_powder_scan(tmp_path / "pool", proposal="MA-1", sample="new", seed=17, n_frames=40)
    notebook = execute("powder_diffraction", tmp_path, dataset=truth.file, bins=1200)
    assert n_pictures(notebook) == 2
    positions = table_of(notebook)
    assert len(positions) == len(truth.peaks)
    assert_found(truth, positions, 0.003)
    product = product_of(notebook)
    assert product.is_relative_to(tmp_path / "home")
    assert_product_holds(truth, product, axis="q", step=0.06)


def test_the_powder_template_reduces_what_is_left_of_a_broken_scan(tmp_path: Path) -> None:
    truth = write_dangling_link_file(tmp_path / "pool", proposal="MA-1", sample="LaB6", seed=2)
    notebook = execute("powder_diffraction", tmp_path, dataset=truth.file, missing="skip")
    assert "MISSING: ../detector_LaB6_0001/pilatus_0001.h5" in printed(notebook)
    with h5py.File(product_of(notebook), "r") as file:
        statistics = file["entry/process/statistics"]
        assert statistics["n_frames_read"][()] == truth.n_frames
        assert statistics["n_frames_missing"][()] == truth.n_frames_missing
        assert statistics["counts_total"][()] == truth.counts_total


def test_the_time_of_flight_template_finds_the_planted_lines(tmp_path: Path) -> None:
    truth = write_tof_run(
        tmp_path / "pool",
        proposal="TO-1",
        sample="Si",
        seed=17,
        n_events=500_000,
        options=TofOptions(n_pulses=600),
    )
    notebook = execute("tof_powder_diffraction", tmp_path, dataset=truth.file)
    assert n_pictures(notebook) == 2
    assert_found(truth, table_of(notebook), 0.003)
    product = product_of(notebook)
    assert_product_holds(truth, product, axis="d_spacing", step=0.004)
    with h5py.File(product, "r") as file:
        statistics = file["entry/process/statistics"]
        assert statistics["n_pulses"][()] == truth.pulses
        assert statistics["n_empty_pulses"][()] == truth.empty_pulses
