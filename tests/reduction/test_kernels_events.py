"""Event kernels: numpy.histogram's bins exactly, on every path, for any events and edges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipp as sc
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.kernels import available_paths, using_path
from beamhub_reduction.kernels.event_plan import EventPlan, Fate
from beamhub_reduction.kernels.events import (
    SortedCells,
    count_cells,
    count_event_cells,
    count_events,
    event_cells,
    event_range,
    new_counts,
    sort_cells,
)
from beamhub_reduction.kernels.events_stored import StoredColumn, can_count_stored, count_stored_events

ID_TYPES = (np.int32, np.uint32, np.int64, np.int16, np.uint64)
OFFSET_TYPES = (np.int32, np.uint32, np.int64, np.float32, np.float64, np.int16, np.uint64)
EXTREMES = (0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
STATE = np.array([0, 1, 0, 2, 0, 0, 1, 0], dtype=np.uint8)


@st.composite
def edge_arrays(draw: Any) -> Any:
    """Edges of one width, of rising width, with doubles, of a few values, and very close ones."""
    kind = draw(st.sampled_from(["even", "log", "any", "few", "close"]))
    n = draw(st.integers(1, 40))
    low = draw(st.floats(-50, 50))
    if kind == "even":
        return np.linspace(low, low + draw(st.floats(0.01, 1e9)), n + 1)
    if kind == "log":
        return np.geomspace(0.1, draw(st.floats(0.2, 1e6)), n + 1)
    if kind == "close":
        return low + np.arange(n + 1) * abs(np.spacing(low or 1.0))
    values = st.integers(-3, 6) if kind == "few" else st.floats(-1e3, 1e6)
    return np.sort(np.array(draw(st.lists(values, min_size=2, max_size=40)), dtype=np.float64))


@st.composite
def event_arrays(draw: Any, edges: Any, unit: float) -> Any:
    """Ids and offsets of any type, many of them on edges or at a type's limits."""
    seed, n = draw(st.integers(0, 2**32)), draw(st.sampled_from([0, 1, 7, 300, 1500]))
    rng = np.random.default_rng(seed)
    id_type, offset_type = draw(st.sampled_from(ID_TYPES)), draw(st.sampled_from(OFFSET_TYPES))
    limits = np.iinfo(id_type)
    some = [x for x in EXTREMES if limits.min <= x <= limits.max]
    ids = rng.integers(0, 14, n).astype(id_type)
    ids[rng.random(n) < 0.1] = np.array(some, dtype=id_type)[rng.integers(len(some))]
    spread = (edges[-1] - edges[0]) / unit or 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        values = edges[0] / unit + rng.uniform(-0.2, 1.2, n) * spread
        on_edge = rng.random(n) < 0.3
        values[on_edge] = rng.choice(edges, int(on_edge.sum())) / unit
        if np.issubdtype(offset_type, np.integer):
            limits = np.iinfo(offset_type)
            offsets = np.clip(np.round(values), float(limits.min), float(limits.max) * (1 - 1e-12)).astype(
                offset_type
            )
            some = [x for x in EXTREMES if limits.min <= x <= limits.max]
        else:
            offsets, some = values.astype(offset_type), [np.nan, np.inf, -np.inf, -0.0, 1e30]
        offsets[rng.random(n) < 0.05] = np.array(some, dtype=offset_type)[rng.integers(len(some))]
    return ids, offsets


def expected_codes(ids: Any, offsets: Any, plan: EventPlan) -> Any:
    """One event after the other, in plain Python and NumPy scalars."""
    codes = []
    for one, offset in zip(ids.tolist(), offsets.astype(np.float64).tolist(), strict=True):
        place = one - (plan.first_id or 0)
        state = 2 if not 0 <= place < STATE.size else int(STATE[place])
        if state:
            codes.append(plan.n_bins + state)
            continue
        value = offset * plan.unit * (1.0 if plan.factor is None else float(plan.factor[place]))
        if not np.isfinite(value):
            codes.append(plan.n_bins + Fate.NOT_FINITE)
        else:
            counts, _ = np.histogram([value], bins=plan.edges)
            codes.append(int(np.argmax(counts)) if counts.any() else plan.n_bins + Fate.OUTSIDE)
    return np.array(codes, dtype=np.int64)


@given(
    data=st.data(), edges=edge_arrays(), unit=st.sampled_from([1.0, 1e-3, 0.1, 7.3]), focused=st.booleans()
)
def test_bins_are_numpys_on_every_path_and_every_event_has_one_fate(
    data: Any, edges: Any, unit: float, focused: bool
) -> None:
    first = data.draw(st.sampled_from([0, 3, -4, 2**31 - 5]))
    factor = np.linspace(0.5, 2.0, STATE.size) if focused else None
    row = np.arange(STATE.size, dtype=np.int32)[::-1].copy()
    plan = EventPlan(edges, unit, first, STATE, factor, row, STATE.size)
    ids, offsets = data.draw(event_arrays(edges, unit))
    codes = expected_codes(ids, offsets, plan)
    used = codes < plan.n_bins
    rows = row[ids[used].astype(np.int64) - first]
    for path in available_paths():
        with using_path(path):
            counts = new_counts(plan)
            count_events(ids, offsets, plan=plan, counts=counts)
            np.testing.assert_array_equal(counts, np.bincount(codes, minlength=counts.size))
            cells, fates = event_cells(ids, offsets, plan=plan)
            np.testing.assert_array_equal(cells, rows.astype(np.int64) * plan.n_bins + codes[used])
            np.testing.assert_array_equal(fates, counts[plan.n_bins :])
            small = np.zeros(plan.n_cells, dtype=np.uint32)
            np.testing.assert_array_equal(count_event_cells(ids, offsets, plan=plan, counts=small), fates)
            np.testing.assert_array_equal(small, np.bincount(cells, minlength=plan.n_cells))


@given(data=st.data(), edges=edge_arrays())
def test_without_ids_the_histogram_is_numpys(data: Any, edges: Any) -> None:
    plan = EventPlan(edges, 0.5)
    _, offsets = data.draw(event_arrays(edges, 0.5))
    values = offsets.astype(np.float64) * 0.5
    expected, _ = np.histogram(values[np.isfinite(values)], bins=edges)
    for path in available_paths():
        with using_path(path):
            counts = new_counts(plan)
            count_events(None, offsets, plan=plan, counts=counts)
            np.testing.assert_array_equal(counts[: plan.n_bins], expected)
            assert counts.sum() == offsets.size
            assert counts[plan.n_bins + Fate.NOT_FINITE] == np.count_nonzero(~np.isfinite(values))
            low, high = event_range(None, offsets, plan=plan)
            finite = values[np.isfinite(values)]
            assert (low, high) == (finite.min(initial=np.inf), finite.max(initial=-np.inf))


@given(n_cells=st.sampled_from([1, 5000, 3_000_000]), seed=st.integers(0, 99), n_parts=st.integers(0, 3))
def test_cells_of_any_parts_are_counted_like_add_at(n_cells: int, seed: int, n_parts: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, n_cells, rng.integers(0, 2000)).astype(np.uint32) for _ in range(n_parts)]
    for dtype, start in ((np.uint32, 7), (np.int64, 2**33)):
        expected = np.full(n_cells, start, dtype=dtype)
        for part in parts:
            np.add.at(expected, part, 1)
        for path in available_paths():
            with using_path(path):
                counts = np.full(n_cells, start, dtype=dtype)
                count_cells([sort_cells(part, n_cells=n_cells) for part in parts], counts=counts)
                assert np.array_equal(counts, expected)


def test_counts_beyond_32_bits_go_on_exactly() -> None:
    plan = EventPlan(np.array([0.0, 1.0, 2.0]))
    counts = new_counts(plan)
    counts[:] = 2**32 + 5
    count_events(None, np.array([0, 1, 2, 2], dtype=np.int32), plan=plan, counts=counts)
    assert (counts - 2**32).tolist() == [6, 8, 5, 5, 5, 5]


@pytest.mark.parametrize("edges", [np.linspace(0, 64, 33), np.array([0.0, 1, 4, 9, 16, 64])])
def test_scipp_counts_the_same_but_for_the_last_edge(edges: Any) -> None:
    """scipp leaves out what lies on the last edge; its equal bins may round, so edges here are exact."""
    rng = np.random.default_rng(3)
    values = rng.integers(-64, 64 * 64, 5000) / 64.0
    pixels = rng.integers(0, 5, values.size).astype(np.int32)
    table = sc.DataArray(
        sc.ones(sizes={"event": values.size}, unit="counts"),
        coords={
            "t": sc.array(dims=["event"], values=values),
            "pixel": sc.array(dims=["event"], values=pixels),
        },
    )
    theirs = table.hist(t=sc.array(dims=["t"], values=edges)).values
    below = values < edges[-1]
    plan = EventPlan(edges, 1.0, 0, np.zeros(5, np.uint8), None, np.arange(5, dtype=np.int32), 5)
    counts = new_counts(plan)
    count_events(pixels[below], values[below], plan=plan, counts=counts)
    np.testing.assert_array_equal(counts[: plan.n_bins], theirs)
    grouped = table.group(sc.array(dims=["pixel"], values=np.arange(5, dtype=np.int32)))
    binned = grouped.bin(t=sc.array(dims=["t"], values=edges)).bins.size().values
    cells, _ = event_cells(pixels[below], values[below], plan=plan)
    np.testing.assert_array_equal(np.bincount(cells, minlength=binned.size).reshape(binned.shape), binned)


def test_what_does_not_fit_is_refused() -> None:
    for edges in (np.array([1.0]), np.array([2.0, 1.0]), np.array([0.0, np.nan])):
        with pytest.raises(ValueError, match="edges"):
            EventPlan(edges)
    good = np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="cells"):
        EventPlan(np.linspace(0, 1, 2**20), 1.0, 0, STATE, None, np.zeros(8, np.int32), 2**10)
    with pytest.raises(ValueError, match="outside the map"):
        EventPlan(good, 1.0, 0, STATE, None, np.full(8, 9, np.int32), 8)
    plan = EventPlan(good, 1.0, 0, STATE)
    for ids in (None, np.zeros(2, np.int32), np.zeros(3)):
        with pytest.raises(ValueError, match="one integer id"):
            count_events(ids, np.zeros(3), plan=plan, counts=new_counts(plan))
    wrong = SortedCells(np.array([9], dtype=np.uint16), np.array([0, 1]))
    for path in available_paths():
        with using_path(path), pytest.raises(ValueError, match=r"outside|refused"):
            count_cells([wrong], counts=np.zeros(4, dtype=np.uint32))


def _thousand_bins(kind: str) -> Any:
    if kind == "even":
        return np.linspace(0, 20_000, 1001)
    if kind == "odd":
        return np.linspace(0.37, 17_003.1, 3001)
    if kind == "log":
        return np.geomspace(1, 2e4, 1001)
    if kind == "crowded":
        return np.unique(np.concatenate([np.linspace(5, 5.01, 500), np.geomspace(1, 2e4, 500)]))
    return np.sort(np.random.default_rng(1).uniform(-100, 2e4, 1001))


@pytest.mark.parametrize("focused", [False, True])
@pytest.mark.parametrize("kind", ["even", "odd", "log", "crowded", "any"])
def test_many_bins_are_searchsorteds_on_every_path_also_next_to_their_edges(kind: str, focused: bool) -> None:
    rng, edges = np.random.default_rng(5), _thousand_bins(kind)
    state = rng.choice([0, 0, 0, 1, 2], 300).astype(np.uint8)
    factor = rng.uniform(0.5, 3, 300) if focused else None
    plan = EventPlan(edges, 1e-3, 7, state, factor)
    ids = rng.integers(0, 310, 6000).astype(np.int32)
    by = 1e-3 * (1.0 if factor is None else factor[np.clip(ids - 7, 0, 299)])
    near = rng.choice(edges, ids.size) / by
    spread = rng.choice([0, 1e-16, 1e-7, 1e-3], ids.size) * rng.normal(size=ids.size)
    floats = np.where(rng.random(ids.size) < 0.5, near * (1 + spread), rng.uniform(-1e6, 2.2e7, ids.size))
    floats[:8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e39, -1e300, 1e-40]
    whole = np.nan_to_num(np.rint(np.clip(floats, -1e9, 1e9))).astype(np.int32)
    for offsets in (floats, floats.clip(-1e30, 1e30).astype(np.float32), whole, whole.astype(np.int64)):
        value = offsets.astype(np.float64) * 1e-3
        value = value if factor is None else value * factor[np.clip(ids - 7, 0, 299)]
        bins = np.searchsorted(edges, value, side="right") - 1
        bins[value == edges[-1]] = edges.size - 2
        codes = np.where((value >= edges[0]) & (value <= edges[-1]), bins, plan.n_bins + Fate.OUTSIDE)
        codes[~np.isfinite(value)] = plan.n_bins + Fate.NOT_FINITE
        known = (ids >= 7) & (ids < 307)
        fate = np.where(known, state[np.clip(ids - 7, 0, 299)], Fate.UNKNOWN).astype(np.int64)
        expected = np.bincount(np.where(fate > 0, plan.n_bins + fate, codes), minlength=plan.n_bins + 4)
        for path in available_paths():
            with using_path(path):
                counts = new_counts(plan)
                count_events(ids, offsets, plan=plan, counts=counts)
                np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("with_ids", [True, False])
def test_stored_events_are_counted_as_far_as_their_file_goes(tmp_path: Path, with_ids: bool) -> None:
    rng, n = np.random.default_rng(2), 100_000  # several parts
    ids, offsets = rng.integers(0, 12, n, dtype=np.int64), rng.uniform(0, 2, n).astype(np.float32)
    path = tmp_path / "events"
    path.write_bytes(b"head" * 2 + ids.tobytes() + offsets.tobytes())
    plan = EventPlan(np.linspace(0, 1, 11), 1.0, *((0, STATE) if with_ids else ()))
    expected, counts, short = new_counts(plan), new_counts(plan), new_counts(plan)
    count_events(ids if with_ids else None, offsets, plan=plan, counts=expected)
    if not can_count_stored(plan, ids=ids.dtype, offsets=offsets.dtype):
        pytest.skip("no compiled kernels")
    with path.open("rb") as file:
        columns: Any = {
            "ids": StoredColumn(file.fileno(), 8, ids.dtype) if with_ids else None,
            "offsets": StoredColumn(file.fileno(), 8 + ids.nbytes, offsets.dtype),
        }
        assert count_stored_events(n, **columns, plan=plan, counts=counts) == n
        np.testing.assert_array_equal(counts, expected)
        os.truncate(path, path.stat().st_size - 4 * 30_000 - 1)
        done = count_stored_events(n, **columns, plan=plan, counts=short)
        assert done == n - 30_001 == short.sum()
    with pytest.raises(OSError, match="descriptor"):
        count_stored_events(n, **columns, plan=plan, counts=short)


@pytest.mark.parametrize("offset_type", [np.int32, np.uint32, np.int16, np.uint64, np.int64])
def test_the_largest_time_of_a_type_falls_into_its_own_bin(offset_type: Any) -> None:
    top = int(np.iinfo(offset_type).max)
    edges = np.linspace(0, 1.05 * top * 1e-3, 24)  # the last bin begins above the largest time
    plan = EventPlan(edges, 1e-3, 0, np.zeros(8, np.uint8), None, np.arange(8, dtype=np.int32), 8)
    offsets = np.array([top, top - 1, 0], dtype=offset_type)
    wanted = np.histogram(offsets.astype(np.float64) * 1e-3, bins=edges)[0]
    for path in available_paths():
        with using_path(path):
            counts = new_counts(plan)
            count_events(np.zeros(3, np.int32), offsets, plan=plan, counts=counts)
            np.testing.assert_array_equal(counts[: plan.n_bins], wanted, err_msg=path)
