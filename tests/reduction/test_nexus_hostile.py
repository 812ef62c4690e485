"""Files made to hurt: the reader ends, with a result or an error that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.nexus import (
    LimitExceeded,
    NexusError,
    NexusFile,
    Target,
    open_header,
    read_default_plot,
    read_frame_stack,
    read_geometry,
    read_layout,
    read_pixel_masks,
    read_value_limits,
)
from beamhub_reduction.nexus.virtual import read_plain
from beamhub_reduction.synthetic import NxmxOptions, write_nxmx_run
from examples import few

ODD: Any = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.sampled_from(["", ".", "/", "x", "deg", "entry", "rotation", "/entry/instrument/detector/depends_on"]),
    st.lists(st.floats(), max_size=4).map(np.array),
    st.just(h5py.Empty("f4")),
    st.just(np.zeros((2, 3, 4), np.int8)),
)
FIELDS = (
    "beam_center_x", "x_pixel_size", "detector_distance", "bit_depth_image", "saturation_value", "depends_on",
    "detectorSpecific/nimages", "detectorSpecific/pixel_mask", "transformations/two_theta",
    "module/fast_pixel_direction", "module/module_offset", "module/data_origin",
)  # fmt: skip
ATTRIBUTES = ("units", "vector", "offset", "offset_units", "transformation_type", "depends_on", "NX_class")


@few(10)
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=3),
    attributes=st.dictionaries(
        st.tuples(st.sampled_from(FIELDS), st.sampled_from(ATTRIBUTES)), ODD, max_size=4
    ),
)
def test_wrong_types_in_any_field_of_a_detector_give_a_result_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any], attributes: dict[Any, Any]
) -> None:
    truth = write_nxmx_run(tmp_path_factory.mktemp("odd"), options=NxmxOptions(n_frames=2))
    with h5py.File(truth.file, "a") as file:
        detector = file["entry/instrument/detector"]
        for name, value in fields.items():
            del detector[name]
            detector[name] = value
        for (name, attribute), value in attributes.items():
            if name in detector:
                detector[name].attrs[attribute] = value
    with NexusFile(truth.file) as nexus:
        stack = read_frame_stack(nexus)
        for read in (
            lambda: read_geometry(nexus, stack.entry, stack.detector),
            lambda: read_pixel_masks(nexus, stack.detector, stack.shape),
            lambda: read_value_limits(nexus, stack.detector, stack.dtype),
        ):
            try:
                read()
            except NexusError as error:
                assert str(error)


def test_deep_wide_and_circular_trees_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as f:
        f["/".join(["g"] * 60)] = 1
    with h5py.File(tmp_path / "wide.h5", "w") as f:
        for i in range(21_000):
            f.create_group(f"g{i}")
    with h5py.File(tmp_path / "loop.h5", "w") as f:
        f["a/b"] = h5py.SoftLink("/a/c")
        f["a/c"] = h5py.SoftLink("/a/b")
        f["a/d"] = f["a"]
        f["a/e"] = h5py.ExternalLink("loop.h5", "/a/e")
        f.attrs["default"] = "a"
        f["a"].attrs["signal"], f["a"].attrs["default"] = "b", "d"
    for name in ("deep", "wide"):
        with pytest.raises(LimitExceeded):
            open_header(tmp_path / f"{name}.h5")
    assert {link.link for link in open_header(tmp_path / "loop.h5").missing_links} == {"/a/b", "/a/c", "/a/e"}
    with NexusFile(tmp_path / "loop.h5") as nexus, pytest.raises(NexusError, match="links follow each other"):
        read_default_plot(nexus)


def test_a_huge_attribute_counts_as_absent(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as f:
        f["entry/data/data"] = np.zeros((2, 3, 4), np.uint16)
        f.attrs.create("default", np.bytes_(b"e" * 200_000))
    with NexusFile(tmp_path / "a.h5") as nexus:
        assert nexus.node("/").attribute("default") is None
        assert read_frame_stack(nexus).n_present == 2


def test_a_virtual_dataset_of_absurd_size_is_not_allocated(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["one"] = np.zeros((1, 4), np.uint16)
        layout = h5py.VirtualLayout((2**40, 4), np.uint16)
        layout[0] = h5py.VirtualSource(".", "one", (1, 4))[0]
        f.create_virtual_dataset("entry/events", layout)

    with pytest.raises(LimitExceeded):
        read_plain(read_layout(Target(str(tmp_path / "a.h5"), "/entry/events"), roots=None))
