"""The default plot is what NeXus says it is, in all three versions of NXdata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.nexus import LinkMissing, NexusFile, NoDefaultPlot, read_default_plot
from beamhub_reduction.nexus.plot import DefaultPlot
from examples import few


def plot_of(path: Path) -> DefaultPlot:
    with NexusFile(path) as nexus:
        return read_default_plot(nexus)


def write(path: Path, fill: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "w") as f:
        f.create_group("entry").attrs["NX_class"] = "NXentry"
        f.create_group("entry/data").attrs["NX_class"] = "NXdata"
        fill(f)
    return path


def names(plot: DefaultPlot) -> list[list[str]]:
    return [[axis.field.name for axis in axes] for axes in plot.axes]


def test_default_is_followed_from_the_root_over_several_groups(tmp_path: Path) -> None:
    def fill(f: h5py.File) -> None:
        for name, nx_class in (("b", "NXentry"), ("b/process", "NXprocess"), ("b/process/plot", "NXdata")):
            f.create_group(name).attrs["NX_class"] = nx_class
        f.attrs["default"], f["b"].attrs["default"] = "b", np.bytes_("process")
        f["b/process"].attrs["default"] = np.array(["plot"], dtype=h5py.string_dtype())
        f["entry/data/data"] = [1, 2]
        f["b/process/plot/y"] = [1.0, 2.0, 3.0]
        f["b/process/plot/y"].attrs["long_name"] = "Intensity"
        f["b/process/plot"].attrs["signal"] = "y"
        f["b/title"] = "the run"

    plot = plot_of(write(tmp_path / "a.h5", fill))
    assert (plot.group, plot.entry, plot.version, plot.explicit) == ("/b/process/plot", "/b", 3, True)
    assert (plot.signal.label, plot.title) == ("Intensity", "the run")


def test_version_3_names_axes_errors_masks_and_auxiliary_signals(tmp_path: Path) -> None:
    def fill(f: h5py.File) -> None:
        data = f["entry/data"]
        data.attrs["signal"], data.attrs["auxiliary_signals"] = "counts", ["other", "gone"]
        data.attrs["axes"] = ["y", ".", "energy"]
        data.attrs["energy_indices"], data.attrs["y_indices"] = 2, [0]
        data.attrs["grid_indices"] = np.array([0, 1])
        shape = (2, 3, 4)
        for name in ("counts", "other", "counts_errors", "counts_mask"):
            data[name] = np.zeros(shape)
        data["y"], data["energy"], data["grid"] = np.zeros(2), np.zeros(5), np.zeros((3, 3))

    plot = plot_of(write(tmp_path / "a.h5", fill))
    assert names(plot) == [["y", "grid"], ["grid"], ["energy"]]
    assert (plot.axes[2][0].is_edges, plot.axes[1][0].is_edges) == ((True,), (True, False))
    assert plot.errors is not None
    assert plot.mask is not None
    assert [field.name for field in plot.auxiliary] == ["other"]


@pytest.mark.parametrize("signal", [1, "1", np.bytes_("1"), np.array([1], np.int32), np.uint8(1)])
@pytest.mark.parametrize("axes", ["y:x", "[y,x]", "y,x", np.bytes_("[y:x]"), np.array([b"y", b"x"])])
def test_version_2_names_its_axes_on_the_signal(tmp_path: Path, signal: Any, axes: Any) -> None:
    def fill(f: h5py.File) -> None:
        f["entry/data/counts"] = np.zeros((2, 3))
        f["entry/data/x"], f["entry/data/y"] = np.arange(3), np.arange(2)
        f["entry/data/counts"].attrs["signal"], f["entry/data/counts"].attrs["axes"] = signal, axes

    plot = plot_of(write(tmp_path / "a.h5", fill))
    assert (plot.signal.name, names(plot), plot.version, plot.explicit) == (
        "counts",
        [["y"], ["x"]],
        2,
        False,
    )


def test_version_1_counts_axes_from_one_and_prefers_the_primary(tmp_path: Path) -> None:
    def fill(f: h5py.File) -> None:
        f["entry/data/counts"] = np.zeros((2, 3))
        f["entry/data/counts"].attrs["signal"] = 1
        for name, size, axis, primary in (("a", 2, 1, 2), ("b", 2, "1", 1), ("tof", 4, 2, 1)):
            f[f"entry/data/{name}"] = np.zeros(size)
            f[f"entry/data/{name}"].attrs["axis"] = axis
            f[f"entry/data/{name}"].attrs["primary"] = primary

    plot = plot_of(write(tmp_path / "a.h5", fill))
    assert (names(plot), plot.version) == ([["b", "a"], ["tof"]], 1)
    assert plot.axes[1][0].is_edges == (True,)


def test_axes_fewer_than_dimensions_and_one_point_scans_are_no_obstacle(tmp_path: Path) -> None:
    def fill(f: h5py.File) -> None:
        f["entry/data"].attrs["signal"], f["entry/data"].attrs["axes"] = "counts", "energy"
        f["entry/data/counts"], f["entry/data/energy"] = np.zeros((1, 4)), np.zeros(4)

    plot = plot_of(write(tmp_path / "short.h5", fill))
    assert (names(plot), len(plot.problems)) == ([[], ["energy"]], 1)

    def fill_point(f: h5py.File) -> None:
        f["entry/data"].attrs["signal"], f["entry/data"].attrs["axes"] = "counts", ["x"]
        f["entry/data/counts"], f["entry/data/x"] = np.zeros(1), 3.0

    assert names(plot_of(write(tmp_path / "point.h5", fill_point))) == [["x"]]


def test_a_group_without_or_with_a_wrong_class_counts_when_it_has_a_signal(tmp_path: Path) -> None:
    for nx_class in (None, "NXcollection", 7):

        def fill(f: h5py.File, nx_class: Any = nx_class) -> None:
            del f["entry/data"]
            f["entry/plot/y"] = [1, 2]
            f["entry/plot"].attrs["signal"] = "y"
            if nx_class is not None:
                f["entry/plot"].attrs["NX_class"] = nx_class

        assert plot_of(write(tmp_path / f"{nx_class}.h5", fill)).signal.name == "y"


def test_a_broken_signal_of_the_default_is_named_and_no_other_plot_shown(tmp_path: Path) -> None:
    def fill(f: h5py.File) -> None:
        f.attrs["default"], f["entry"].attrs["default"] = "entry", "data"
        f["entry/data"].attrs["signal"] = "y"
        f["entry/data/y"] = h5py.ExternalLink("gone.h5", "/y")
        f["entry/other/y"] = [1]
        f["entry/other"].attrs["NX_class"] = "NXdata"

    with pytest.raises(LinkMissing) as caught:
        plot_of(write(tmp_path / "a.h5", fill))
    assert caught.value.target == "gone.h5:/y"


def test_a_file_without_a_signal_has_no_plot(tmp_path: Path) -> None:
    with pytest.raises(NoDefaultPlot):
        plot_of(write(tmp_path / "a.h5", lambda f: None))


def test_a_default_that_goes_in_a_circle_ends(tmp_path: Path) -> None:
    def fill(f: h5py.File) -> None:
        f.attrs["default"] = "entry"
        f["entry/again"] = h5py.SoftLink("/entry")
        f["entry"].attrs["default"] = "again"
        f["entry/data/data"] = [1, 2]

    plot = plot_of(write(tmp_path / "a.h5", fill))
    assert (plot.group, plot.explicit) == ("/entry/data", False)


ODD = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.binary(max_size=8).map(np.bytes_),
    st.lists(st.integers(-3, 9), max_size=4).map(lambda v: np.array(v, dtype=np.int64)),
    st.sampled_from(["y", "x", "y:x", "[y", ".", "", "data", "entry/data", "/"]),
    st.lists(st.sampled_from(["y", "x", ".", "nowhere"]), min_size=1, max_size=4).map(
        lambda v: np.array(v, dtype=h5py.string_dtype())
    ),
    st.just(h5py.Empty("f4")),
)
WHERE = ("/", "entry", "entry/data", "entry/data/y")
WHAT = ("default", "signal", "axes", "x_indices", "axis", "NX_class", "auxiliary_signals", "units")


@few(60)
@given(attributes=st.dictionaries(st.tuples(st.sampled_from(WHERE), st.sampled_from(WHAT)), ODD, max_size=6))
def test_odd_attributes_give_a_plot_or_say_that_there_is_none(
    tmp_path_factory: pytest.TempPathFactory, attributes: dict[tuple[str, str], Any]
) -> None:
    def fill(f: h5py.File) -> None:
        f["entry/data/y"], f["entry/data/x"] = np.zeros((2, 3)), np.zeros(3)
        for (where, name), value in attributes.items():
            f[where].attrs[name] = value

    path = write(tmp_path_factory.mktemp("odd") / "a.h5", fill)
    try:
        plot = plot_of(path)
    except NoDefaultPlot:
        return
    assert len(plot.axes) == len(plot.signal.shape)
    for axes in plot.axes:
        assert all(0 <= d < len(plot.signal.shape) for axis in axes for d in axis.dimensions)
