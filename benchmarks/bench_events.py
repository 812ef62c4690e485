"""B5: neutron events counted in one dimension (time, d-spacing) and as a map of pixel by time.

2e8 events of int32 ids and int32 nanoseconds, 1e5 pixels, written raw and with gzip. Three tables:
events in memory (kernel alone, against numba, NumPy and scipp), one file read and counted in one dimension,
and the same file as a map. In memory the limit is a loop that reads ids and counts bins that are known; of a
file it is the file read positionally into one buffer, and for gzip decoded with libdeflate. Bars: 1000 Mev/s
a core in one dimension, 200 for the map.
"""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import scipp as sc
from side_by_side import Scale, alternate, parse_arguments, report, write_json

from beamhub_reduction.kernels.event_plan import EventPlan
from beamhub_reduction.kernels.events import (
    count_event_cells,
    count_events,
    event_cells,
    new_counts,
    sort_cells,
)
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source, parse_parameters, step_kind
from beamhub_reduction.storage_chunks import open_descriptor, read_chunk_index

N_PIXELS = 100_000
FRAME_NS = 20_000_000
BLOCK = 1 << 18
SMALL_PIXELS = 400
FLOOR = "limit: ids and known bins read, bins counted"


def draw_events(n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Ids and times (ns) with peaks, as a powder gives them."""
    ids = rng.integers(0, N_PIXELS, n, dtype=np.int32)
    times = rng.integers(0, FRAME_NS, n, dtype=np.int32)
    in_peak = slice(0, n // 2)
    times[in_peak] = (rng.integers(1, 40, n // 2) * (FRAME_NS // 40) + rng.normal(0, 2e4, n // 2)).astype(
        np.int32
    )
    order = rng.permutation(n)
    return ids[order], np.clip(times[order], 0, FRAME_NS - 1)


def write_run(path: Path, n_events: int, *, gzip: bool) -> None:
    """One bank of 1e5 pixels; each block of events is a fresh draw."""
    rng = np.random.default_rng(11)
    with h5py.File(path, "w") as f:
        for name, nx_class in (
            ("entry", "NXentry"), ("entry/instrument", "NXinstrument"),
            ("entry/instrument/moderator", "NXmoderator"),
            ("entry/instrument/bank", "NXdetector"), ("entry/instrument/bank/events", "NXevent_data"),
        ):  # fmt: skip
            f.create_group(name).attrs["NX_class"] = nx_class
        f["entry/instrument/moderator/distance"] = -20.0
        bank = f["entry/instrument/bank"]
        bank["detector_number"] = np.arange(N_PIXELS, dtype=np.int32)
        bank["distance"] = rng.uniform(1, 3, N_PIXELS)
        bank["polar_angle"] = rng.uniform(20, 160, N_PIXELS)
        events = bank["events"]
        packed = (
            {"chunks": (BLOCK,), "compression": "gzip", "compression_opts": 1, "shuffle": True}
            if gzip
            else {}
        )
        made = [events.create_dataset(name, (n_events,), np.int32, **packed)
                for name in ("event_id", "event_time_offset")]  # fmt: skip
        made[1].attrs["units"] = "ns"
        step = 1 << 22
        for low in range(0, n_events, step):
            high = min(low + step, n_events)
            made[0][low:high], made[1][low:high] = draw_events(high - low, rng)
        pulses = max(n_events // 20_000, 1)
        events["event_index"] = (np.arange(pulses) * 20_000).astype(np.uint64)
        events["event_time_zero"] = np.arange(pulses) / 14.0


def numba_loops() -> tuple[Any, Any]:
    """What people write, whose bins may round; and the least that counting does, with bins that are known."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]  # numba
    def loop(offsets: Any, counts: Any, scale: float) -> None:
        for offset in offsets:
            k = int(offset * scale)
            if 0 <= k < counts.size:
                counts[k] += 1

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]  # numba
    def floor(ids: Any, bins: Any, tables: Any) -> int:
        seen = 0
        for i in range(0, bins.size, 4):
            for k in range(4):
                seen |= ids[i + k]
                tables[k, bins[i + k]] += 1
        return seen

    return loop, floor


def in_memory(arguments: Any) -> dict[str, Any]:
    """The kernels on blocks that fit the cache, and what people use."""
    rng = np.random.default_rng(1)
    ids, times = draw_events(BLOCK, rng)
    rounds = 2 if arguments.quick else 40
    edges = np.linspace(0, FRAME_NS / 1e3, 1001)
    good = np.zeros(N_PIXELS, dtype=np.uint8)
    masked = good.copy()
    masked[::100] = 1
    rows, per_pixel = np.arange(N_PIXELS, dtype=np.int32), rng.uniform(70, 300, N_PIXELS)
    plans = {
        "ours, time": EventPlan(edges, 1e-3, 0, good),
        "ours, time, 1 % of pixels masked": EventPlan(edges, 1e-3, 0, masked),
        "ours, time, bins of equal ratio": EventPlan(np.geomspace(1, 2e4, 1001), 1e-3, 0, good),
        "ours, d-spacing": EventPlan(np.linspace(0.1, 4, 1001), 1e-9, 0, masked, per_pixel),
        "ours, d-spacing, bins of equal ratio": EventPlan(
            np.geomspace(0.1, 4, 1001), 1e-9, 0, masked, per_pixel
        ),
    }

    loop, floor = numba_loops()
    table = sc.DataArray(sc.ones(sizes={"event": BLOCK}, unit="counts"),
                         coords={"t": sc.array(dims=["event"], values=times * 1e-3)})  # fmt: skip
    scipp_edges = sc.array(dims=["t"], values=edges)
    counts, small = {name: new_counts(plan) for name, plan in plans.items()}, np.zeros(1000, dtype=np.int64)
    map_plan = EventPlan(edges, 1e-3, 0, good, None, rows, N_PIXELS)
    small_plan = EventPlan(edges, 1e-3, 0, good[:SMALL_PIXELS], None, rows[:SMALL_PIXELS], SMALL_PIXELS)
    small_map = np.zeros(small_plan.n_cells, dtype=np.uint32)
    few_ids = ids % SMALL_PIXELS
    known, tables = (times // (FRAME_NS // 1000)).astype(np.int32), np.zeros((4, 1000), dtype=np.uint32)

    def ours(name: str) -> None:
        for _ in range(rounds):
            count_events(ids, times, plan=plans[name], counts=counts[name])

    subjects = {name: (lambda name=name: ours(name)) for name in plans}
    subjects |= {
        "ours, cells of a map, sorted": lambda: [
            sort_cells(event_cells(ids, times, plan=map_plan)[0], n_cells=map_plan.n_cells)
            for _ in range(rounds)
        ],
        f"ours, map of {SMALL_PIXELS} pixels by 1000": lambda: [
            count_event_cells(few_ids, times, plan=small_plan, counts=small_map) for _ in range(rounds)
        ],
        FLOOR: lambda: [floor(ids, known, tables) for _ in range(rounds)],
        "numba loop, no ids, bins may round": lambda: [
            loop(times, small, 1000 / FRAME_NS) for _ in range(rounds)
        ],
        "numpy.histogram, bins of one width": lambda: [
            np.histogram(times, bins=1000, range=(0, FRAME_NS)) for _ in range(max(rounds // 10, 1))
        ],
        "scipp hist": lambda: [table.hist(t=scipp_edges) for _ in range(max(rounds // 10, 1))],
    }
    n = BLOCK * rounds / 1e6
    few = BLOCK * max(rounds // 10, 1) / 1e6
    amounts = {"numpy.histogram, bins of one width": few, "scipp hist": few}
    times_of = alternate(subjects, repeats=arguments.repeats)
    return report(
        "events in memory, one core",
        times_of,
        Scale(n, "Mev", peer="scipp hist", limit=FLOOR, amounts=amounts),
    )


def reduce(step: str, path: Path, **values: Any) -> Any:
    """One reduction in this thread."""
    kind = step_kind(step)
    return kind.reduce(Source(str(path)), parse_parameters(kind, values), one_thread())


def one_thread() -> Engine:
    """An engine of one thread, so that rates are rates of a core."""
    return Engine(threads=1)


def read_only(path: Path) -> None:
    """Both datasets read into one buffer and decoded, nothing else: the limit."""
    for name in ("event_id", "event_time_offset"):
        index = read_chunk_index(str(path), f"/entry/instrument/bank/events/{name}")
        with open_descriptor(str(path)) as descriptor:
            buffer = bytearray(4 * BLOCK)
            if not index.filters:
                for low in range(0, index.shape[0] * 4, len(buffer)):
                    os.preadv(descriptor, [buffer], int(index.offsets[0]) + low)
                continue
            for offset, size in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
                imagecodecs.deflate_decode(os.pread(descriptor, size, offset), out=buffer)


def scipp_file(path: Path) -> Any:
    """All events of the file loaded and counted by scipp: counts of each bin."""
    with h5py.File(path) as f:
        times = f["entry/instrument/bank/events/event_time_offset"][()]
    table = sc.DataArray(sc.ones(sizes={"event": times.size}, unit="counts", dtype="float32"),
                         coords={"t": sc.array(dims=["event"], values=times)})  # fmt: skip
    return table.hist(t=sc.linspace("t", 0, FRAME_NS, 1001)).values


def compare(path: Path, times: dict[str, Any]) -> None:
    """Our counts by time are scipp's, and the map holds the same events."""
    counted = reduce("time_of_flight", path, axis="tof", **times).signals[0].values
    np.testing.assert_array_equal(counted, scipp_file(path))
    by_pixel = reduce("event_map", path, axis="tof", **times).signals[0].values
    np.testing.assert_array_equal(by_pixel.sum(axis=0, dtype=np.int64), counted)


def from_file(path: Path, n_events: int, arguments: Any, what: str) -> list[dict[str, Any]]:
    """Whole reductions of one file, warm."""
    times = {"axis_range": (0.0, FRAME_NS / 1e3), "bins": 1000}
    compare(path, times)
    one = {
        "ours, time": lambda: reduce("time_of_flight", path, axis="tof", **times),
        "ours, d-spacing": lambda: reduce("time_of_flight", path, axis="d", axis_range=(0.1, 4.0), bins=1000),
        "ours, map of 1e5 pixels by 1000": lambda: reduce("event_map", path, axis="tof", **times),
        "h5py and scipp, time": lambda: scipp_file(path),
        "limit: read and decode": lambda: read_only(path),
    }
    found = alternate(one, repeats=arguments.repeats)
    scale = Scale(n_events / 1e6, "Mev", peer="h5py and scipp, time", limit="limit: read and decode")
    return [report(f"{n_events / 1e6:g} million events, {what}, one core", found, scale)]


def main() -> None:
    """Run all tables."""
    arguments = parse_arguments(__doc__, events={"type": int, "default": None, "help": "events in a file"})
    n_events = arguments.events or (400_000 if arguments.quick else 200_000_000)
    tables = [in_memory(arguments)]
    with tempfile.TemporaryDirectory(prefix="beamhub-bench-") as folder:
        for gzip, what in ((False, "raw"), (True, "gzip and shuffle")):
            path = Path(folder) / f"run_{int(gzip)}.nxs"
            write_run(path, n_events, gzip=gzip)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            reduce("time_of_flight", path, axis="tof", axis_range=(0.0, FRAME_NS / 1e3), bins=1000)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(f"  peak memory grew by {grown:.0f} MiB for {n_events * 8 / 2**20:.0f} MiB of events")
            tables += from_file(path, n_events, arguments, what)
            path.unlink()
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
