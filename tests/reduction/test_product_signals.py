"""Signals of any dimension in a product: valid names, default plots from the root, nothing lost."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.product import ProductContent, build_product_file
from beamhub_reduction.product_signals import valid_name, write_signals
from beamhub_reduction.steps.signal import Axis, Signal

Y, X = Axis("y", "mm", np.arange(3.0)), Axis("x", "mm", np.arange(5.0))
T = Axis("time", "s", np.arange(2.0))


def content(*signals: Signal, **facts: Any) -> ProductContent:
    provenance = {"software": {"beamhub": "1"}, "title": "π"}
    return ProductContent(
        "Übersicht π",
        "P-1",
        None,
        None,
        signals,
        {"n": 3},
        provenance,
        datetime(2026, 1, 1, tzinfo=UTC),
        **facts,
    )


def opened(*signals: Signal, **facts: Any) -> h5py.File:
    return h5py.File(BytesIO(build_product_file(content(*signals, **facts))), "r")


def image(name: str, units: str = "counts", axes: tuple[Axis, ...] = (Y, X)) -> Signal:
    values = np.arange(np.prod([a.values.size for a in axes]), dtype=float)
    shape = tuple(a.values.size for a in axes)
    return Signal(name, values.reshape(shape), np.sqrt(values).reshape(shape), units, axes)


def default_signal(file: h5py.File) -> tuple[h5py.Group, h5py.Dataset]:
    """The plot that a viewer finds by following `default` from the root."""
    group = file
    while "default" in group.attrs:
        group = group[group.attrs["default"]]
    return group, group[group.attrs["signal"]]


def test_the_default_plot_is_found_from_the_root_with_axes_errors_and_units() -> None:
    with opened(image("mean")) as file:
        group, signal = default_signal(file)
        assert (group.name, signal.name) == ("/entry/data", "/entry/data/mean")
        assert list(group.attrs["axes"]) == ["y", "x"]
        assert (group.attrs["y_indices"], group.attrs["x_indices"]) == (0, 1)
        assert group["mean_errors"].shape == signal.shape
        assert (group["x"].attrs["units"], signal.attrs["units"]) == ("mm", "counts")
        assert file["entry/title"].asstr()[()] == "Übersicht π"


def test_signals_that_share_axes_and_unit_are_auxiliary_and_others_have_a_group() -> None:
    stack = image("stack", axes=(T, Y, X))
    with opened(image("mean"), image("largest"), image("variance", "counts^2"), stack) as file:
        data = file["entry/data"]
        assert list(data.attrs["auxiliary_signals"]) == ["largest"]
        assert "largest_errors" in data
        assert list(file["entry/stack"].attrs["axes"]) == ["time", "y", "x"]
        assert file["entry/variance"].attrs["signal"] == "variance"
        for name in ("data", "variance", "stack"):
            assert file["entry"][name].attrs["NX_class"] == "NXdata"


def test_names_that_meet_are_told_apart() -> None:
    axis = Axis("q", "1/nm", np.arange(3.0))
    twin = Signal("q", np.zeros((3, 3)), None, "counts", (axis, axis))
    with opened(twin, Signal("process", np.zeros(3), None, "", (axis,))) as file:
        data = file["entry/data"]
        assert data.attrs["signal"] == "q"
        assert list(data.attrs["axes"]) == ["q_2", "q_3"]
        assert file["entry/process"].attrs["NX_class"] == "NXprocess"
        assert "process_2" in file["entry"]


@given(st.text())
def test_every_name_becomes_a_valid_one(text: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.]*[A-Za-z0-9_])?", valid_name(text))
    assert len(valid_name(text)) <= 63


def test_edges_big_endian_values_and_empty_signals_are_written_as_they_are() -> None:
    edges = Axis("d", "angstrom", np.arange(4.0))
    big = Signal("counts", np.array([1, 2, 3], ">i4"), None, "counts", (edges,))
    none = Signal("none", np.zeros((0, 3)), None, "counts", (Axis("n", "", np.zeros(0)), Y))
    with opened(big, none) as file:
        data = file["entry/data"]
        assert data["d"].shape == (4,)
        assert data["counts"].dtype.isnative
        np.testing.assert_array_equal(data["counts"][:], [1, 2, 3])
        assert file["entry/none/none"].shape == (0, 3)


def test_nothing_but_single_words_has_a_variable_length() -> None:
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is not None:
            found.append(name)
            assert item.shape == ()
        elif isinstance(item, h5py.Dataset):
            assert item.dtype.kind in "iuf"

    with opened(image("mean"), image("other")) as file:
        file.visititems(look)
    assert "entry/title" in found


@pytest.mark.parametrize("final", [True, False])
def test_a_state_that_is_not_final_is_no_product_for_a_catalogue(final: bool) -> None:
    with opened(image("mean"), final=final) as file:
        assert ("provenance" in file["entry/process"]) is final
        assert "evidence" in file["entry/process"]


@pytest.mark.parametrize("shape", [(600_000,), (700, 900), (3, 400, 500), (2, 1, 2, 200_000)])
def test_a_large_array_is_packed_in_chunks_and_reads_back_the_same(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).poisson(3, shape).astype(np.float64)
    axes = tuple(Axis(f"a{i}", "", np.arange(n)) for i, n in enumerate(shape))
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        write_signals(file.create_group("entry"), [Signal("image", values, None, "counts", axes)])
        stored = file["entry/data/image"]
        assert stored.compression == "gzip"
        assert np.prod(stored.chunks) * 8 <= 4 * 1024**2
        assert stored.id.get_storage_size() < values.nbytes / 4
        np.testing.assert_array_equal(stored[()], values)
        assert file["entry/data/a0"].chunks is None or shape[0] > 100_000
