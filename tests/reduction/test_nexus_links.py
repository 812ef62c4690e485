"""Links and virtual datasets are resolved by us: nothing missing ever reads as zeros."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.nexus import (
    LinkMissing,
    NexusFile,
    NodeMissing,
    OutsideRoots,
    Target,
    UnsupportedLayout,
    open_header,
    read_frame_stack,
    read_layout,
    resolve,
)
from beamhub_reduction.nexus.virtual import read_plain
from examples import few


def write_frames(path: Path, n_frames: int, first: int = 0, name: str = "data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as f:
        f[name] = (np.arange(n_frames, dtype=np.uint32) + first)[:, None, None] + np.zeros(
            (1, 3, 4), np.uint32
        )
    return path


def write_virtual(
    path: Path, n_frames: int, sources: list[tuple[str, int, slice]], name: str = "data"
) -> Path:
    layout = h5py.VirtualLayout((n_frames, 3, 4), np.uint32)
    at = 0
    for file, length, rows in sources:
        n = len(range(*rows.indices(length)))
        layout[at : at + n] = h5py.VirtualSource(file, name, (length, 3, 4))[rows]
        at += n
    with h5py.File(path, "w") as f:
        f.create_virtual_dataset("data", layout, fillvalue=0)
    return path


def values_of(path: Path, name: str = "/data") -> list[int]:
    return [int(frame[0, 0]) for frame in read_plain(read_layout(Target(str(path), name), roots=None))]


def test_external_links_count_from_the_linking_file_and_follow_each_other(tmp_path: Path) -> None:
    write_frames(tmp_path / "sub" / "c.h5", 2)
    with h5py.File(tmp_path / "sub" / "b.h5", "w") as f:
        f["x"] = h5py.ExternalLink("c.h5", "/data")
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["g/y"] = h5py.ExternalLink("sub/b.h5", "/x")
        f["soft"] = h5py.SoftLink("g/y")
    assert resolve(str(tmp_path / "a.h5"), "/soft", roots=None) == Target(
        str(tmp_path / "sub" / "c.h5"), "/data"
    )
    header = open_header(tmp_path / "a.h5")
    assert header.linked_files == (str(tmp_path / "sub" / "c.h5"),)


def test_a_soft_link_counts_from_its_own_group(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["g/d"] = 1
        f["g/near"] = h5py.SoftLink("d")
        f["g/far"] = h5py.SoftLink("/g/near")
    assert resolve(str(tmp_path / "a.h5"), "/g/far", roots=None).path == "/g/d"


def test_an_absolute_link_of_another_site_is_found_beside_the_file(tmp_path: Path) -> None:
    write_frames(tmp_path / "raw.h5", 1)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["x"] = h5py.ExternalLink("/another/site/raw.h5", "/data")
    assert resolve(str(tmp_path / "a.h5"), "/x", roots=None).file == str(tmp_path / "raw.h5")


def test_a_link_through_a_linked_folder_counts_from_where_the_file_really_is(tmp_path: Path) -> None:
    write_frames(tmp_path / "facility" / "detector" / "d.h5", 2)
    (tmp_path / "facility" / "scan").mkdir()
    with h5py.File(tmp_path / "facility" / "scan" / "a.h5", "w") as f:
        f["data"] = h5py.ExternalLink("../detector/d.h5", "/data")
    (tmp_path / "view").symlink_to(tmp_path / "facility" / "scan")
    assert open_header(tmp_path / "view" / "a.h5").missing_links == ()


@pytest.mark.parametrize(
    ("file", "path", "reason"),
    [
        ("absent.h5", "/data", "that file does not exist"),
        ("there.h5", "/other", "there is no 'other'"),
        ("there.h5", "/data/deeper", "is a dataset"),
        ("damaged.h5", "/data", "that file is damaged"),
    ],
)
def test_a_dangling_link_says_what_it_misses(tmp_path: Path, file: str, path: str, reason: str) -> None:
    write_frames(tmp_path / "there.h5", 1)
    (tmp_path / "damaged.h5").write_bytes(b"zzz")
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["x"] = h5py.ExternalLink(file, path)
    with pytest.raises(LinkMissing, match=reason) as caught:
        resolve(str(tmp_path / "a.h5"), "/x", roots=None)
    assert caught.value.link == "/x"


def test_links_in_circles_end_soon_and_are_named(tmp_path: Path) -> None:
    """Soft, external, soft to external and back, and virtual sources that lie behind such a circle."""
    with h5py.File(tmp_path / "a.h5", "w") as a, h5py.File(tmp_path / "b.h5", "w") as b:
        a["soft"] = h5py.SoftLink("soft")
        a["ping"] = h5py.ExternalLink("b.h5", "/pong")
        b["pong"] = h5py.ExternalLink("a.h5", "/ping")
        a["round"] = h5py.SoftLink("/ring")
        a["ring"] = h5py.ExternalLink("a.h5", "/round/and/round")
        a["entry/self"] = h5py.SoftLink("/entry/self/self")
    write_virtual(tmp_path / "v.h5", 2, [("a.h5", 2, slice(0, 2))], name="ping")
    for path in ("/soft", "/ping", "/round", "/ring/deeper", "/entry/self"):
        with pytest.raises(LinkMissing, match="more than 32 links follow each other") as caught:
            resolve(str(tmp_path / "a.h5"), path, roots=None)
        assert caught.value.link == path
    layout = read_layout(Target(str(tmp_path / "v.h5"), "/data"), roots=None)
    assert "links follow each other" in layout.missing_links[0].reason


def test_a_path_that_no_link_is_part_of_is_a_missing_node(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.h5", 1)
    with pytest.raises(NodeMissing) as caught:
        resolve(str(tmp_path / "a.h5"), "/nothing/here", roots=None)
    assert caught.value.node == "/nothing/here"


def test_links_and_virtual_sources_stay_inside_the_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "P1", tmp_path / "P10"
    write_frames(outside / "secret.h5", 2)
    inside.mkdir()
    with h5py.File(inside / "link.h5", "w") as f:
        f["x"] = h5py.ExternalLink("../P10/secret.h5", "/data")
    write_virtual(inside / "virtual.h5", 2, [("../P10/secret.h5", 2, slice(0, 2))])
    with pytest.raises(OutsideRoots):
        resolve(str(inside / "link.h5"), "/x", roots=[inside])
    with pytest.raises(OutsideRoots):
        read_layout(Target(str(inside / "virtual.h5"), "/data"), roots=[inside])
    for name in ("link.h5", "virtual.h5"):
        header = open_header(inside / name, [inside])
        assert header.linked_files == ()
        assert "outside" in header.missing_links[0].reason


def test_a_file_outside_the_roots_is_refused_whether_it_exists_or_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_frames(tmp_path / "out" / "exists.h5", 1)
    reasons = []
    for name in ("exists.h5", "absent.h5"):
        with h5py.File(tmp_path / "in" / f"to-{name}", "w") as f:
            f["x"] = h5py.ExternalLink(f"../out/{name}", "/data")
        reasons.append(open_header(tmp_path / "in" / f"to-{name}", [tmp_path / "in"]).missing_links[0].reason)
    assert reasons[0] == reasons[1]


def test_external_raw_storage_is_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"0123456789abcdef" * 10)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_group("e").attrs["NX_class"] = "NXentry"
        f.create_dataset("e/title", (1,), "S16", external=[(str(secret), 0, 16)])
        f.create_group("e/data").attrs["NX_class"] = "NXdata"
        f.create_dataset("e/data/data", (4, 4), "u1", external=[(str(secret), 0, 16)])
    with pytest.raises(UnsupportedLayout, match="external raw storage"):
        open_header(tmp_path / "a.h5")


@few(40)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    cuts=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=4),
)
def test_a_virtual_dataset_gives_the_frames_that_hdf5_gives(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cuts: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("virtual")
    sources = []
    for i, (length, (low, n)) in enumerate(zip(lengths, cuts, strict=False)):
        write_frames(folder / f"s{i}.h5", length, first=100 * (i + 1))
        low = min(low, length - 1)
        sources.append((f"s{i}.h5", length, slice(low, min(low + n, length))))
    total = sum(len(range(*rows.indices(length))) for _, length, rows in sources)
    path = write_virtual(folder / "v.h5", total, sources)
    with h5py.File(path) as f:
        expected = [int(frame[0, 0]) for frame in f["data"][:]]
    assert values_of(path) == expected


def test_nested_virtual_datasets_and_links_come_down_to_plain_files(tmp_path: Path) -> None:
    write_frames(tmp_path / "raw.h5", 6)
    write_virtual(tmp_path / "inner.h5", 4, [("raw.h5", 6, slice(2, 6))])
    with h5py.File(tmp_path / "chain.h5", "w") as f:
        f["data"] = h5py.ExternalLink("inner.h5", "/data")
    write_virtual(tmp_path / "outer.h5", 2, [("chain.h5", 4, slice(1, 3))])
    layout = read_layout(Target(str(tmp_path / "outer.h5"), "/data"), roots=None)
    assert [(p.file, p.first, p.n_rows) for p in layout.pieces] == [(str(tmp_path / "raw.h5"), 3, 2)]
    assert values_of(tmp_path / "outer.h5") == [3, 4]


def test_a_virtual_dataset_of_its_own_file_and_of_single_frames_is_understood(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["one"] = np.full((3, 4), 7, np.uint32)
        layout = h5py.VirtualLayout((2, 3, 4), np.uint32)
        layout[0] = h5py.VirtualSource(".", "one", (3, 4))
        layout[1] = h5py.VirtualSource(".", "one", (3, 4))
        f.create_virtual_dataset("data", layout)
    assert values_of(tmp_path / "a.h5") == [7, 7]


@pytest.mark.parametrize("fault", ["absent", "damaged", "shorter", "without the dataset"])
def test_a_faulty_source_is_an_error_and_never_zeros(tmp_path: Path, fault: str) -> None:
    write_frames(tmp_path / "s0.h5", 3, first=1)
    write_frames(tmp_path / "s1.h5", 3, first=4)
    path = write_virtual(tmp_path / "v.h5", 6, [("s0.h5", 3, slice(0, 3)), ("s1.h5", 3, slice(0, 3))])
    if fault == "absent":
        (tmp_path / "s1.h5").unlink()
    elif fault == "damaged":
        (tmp_path / "s1.h5").write_bytes(b"oops")
    elif fault == "shorter":
        write_frames(tmp_path / "s1.h5", 2)
    else:
        write_frames(tmp_path / "s1.h5", 3, name="other")
    layout = read_layout(Target(str(path), "/data"), roots=None)
    assert [piece.at for piece in layout.missing] == [3]
    with pytest.raises(LinkMissing) as caught:
        read_plain(layout)
    assert caught.value.target == "s1.h5:data"
    assert [m.target for m in open_header(path).missing_links] == ["s1.h5:data"]


def test_rows_that_no_source_covers_are_no_zeros(tmp_path: Path) -> None:
    write_frames(tmp_path / "s0.h5", 2)
    path = write_virtual(tmp_path / "v.h5", 5, [("s0.h5", 2, slice(0, 2))])
    with pytest.raises(UnsupportedLayout, match="no source covers"):
        read_plain(read_layout(Target(str(path), "/data"), roots=None))


def test_virtual_datasets_in_a_circle_end(tmp_path: Path) -> None:
    write_virtual(tmp_path / "a.h5", 2, [("b.h5", 2, slice(0, 2))])
    write_virtual(tmp_path / "b.h5", 2, [("a.h5", 2, slice(0, 2))])
    with pytest.raises(UnsupportedLayout, match="nested"):
        read_layout(Target(str(tmp_path / "a.h5"), "/data"), roots=None)


def test_a_named_dataset_is_a_stack_of_its_own(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.h5", 3, name="somewhere")
    with NexusFile(tmp_path / "a.h5") as nexus:
        assert read_frame_stack(nexus, "/somewhere").n_present == 3
