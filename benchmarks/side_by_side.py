"""What every benchmark of the reduction shares: subjects that alternate in one run, medians, ratios, JSON.

A subject is a function without arguments. All subjects run once to warm up, then in turn, `repeats` times,
so that what else the machine does hits all of them alike. The table gives each median as a rate, its ratio
to the peer and its share of the limit; the JSON holds every single time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Subject = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of every run of one subject: by the clock, and of the processor, all threads."""

    wall: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median by the clock."""
        return statistics.median(self.wall)

    @property
    def median_processor(self) -> float:
        """The median of the processor's time."""
        return statistics.median(self.processor)


def alternate(
    subjects: Mapping[str, Subject], *, repeats: int, before_each: Subject | None = None, warm_up: bool = True
) -> dict[str, Times]:
    """Run all subjects in turn; `before_each` is not timed (it may empty the page cache)."""
    if warm_up:
        for work in subjects.values():
            work()
    wall: dict[str, list[float]] = {name: [] for name in subjects}
    processor: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, work in subjects.items():
            if before_each is not None:
                before_each()
            began, used = time.perf_counter(), time.process_time()
            work()
            wall[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - used)
    return {name: Times(tuple(wall[name]), tuple(processor[name])) for name in subjects}


@dataclass(frozen=True, slots=True)
class Scale:
    """What a run does, and what it is compared with.

    `amount` units of work are done by each subject (`amounts` for those that do another amount); `peer` names
    a subject; `limit` is a rate in the same unit, or the name of a subject whose rate is the limit.
    """

    amount: float
    unit: str
    peer: str | None = None
    limit: float | str | None = None
    amounts: Mapping[str, float] | None = None

    def of(self, name: str) -> float:
        """The amount of work of one subject."""
        return (self.amounts or {}).get(name, self.amount)


def report(title: str, times: Mapping[str, Times], scale: Scale) -> dict[str, Any]:
    """Print one table; gives what stands in the JSON."""
    rates = {name: scale.of(name) / found.median for name, found in times.items()}
    peer = rates[scale.peer] if scale.peer else None
    limit = rates[scale.limit] if isinstance(scale.limit, str) else scale.limit
    print(f"\n{title}; {describe_load()}")
    rows = []
    for name, found in times.items():
        rate = rates[name]
        spread = [scale.of(name) / max(found.wall), scale.of(name) / min(found.wall)]
        row: dict[str, Any] = {
            "name": name, "rate": rate, "unit": f"{scale.unit}/s", "slowest": spread[0], "fastest": spread[1],
            "processor_s": found.median_processor, "wall_s": list(found.wall),
        }  # fmt: skip
        text = f"  {name:<44} {rate:10.4g} {scale.unit}/s ({spread[0]:.4g} to {spread[1]:.4g})"
        if peer:
            row["to_peer"] = rate / peer
            text += f", {row['to_peer']:6.2f} x peer"
        if limit:
            row["share_of_limit"] = rate / limit
            text += f", {row['share_of_limit']:5.2f} of the limit"
        print(text)
        rows.append(row)
    if limit and not isinstance(scale.limit, str):
        print(f"  {'limit':<44} {limit:10.4g} {scale.unit}/s")
    sys.stdout.flush()
    return {"title": title, "unit": scale.unit, "peer": scale.peer, "limit": limit, "rows": rows}


def parse_arguments(description: str | None, **extra: Mapping[str, Any]) -> argparse.Namespace:
    """--quick, --repeats, --json and what a benchmark adds: name without dashes, settings of add_argument."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small data and few repeats: does it run at all")
    parser.add_argument("--repeats", type=int, default=None, help="runs of each subject (default 5, quick 1)")
    parser.add_argument("--json", type=Path, default=None, help="write all times here")
    for name, settings in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), **settings)
    arguments = parser.parse_args()
    if arguments.repeats is None:
        arguments.repeats = 1 if arguments.quick else 5
    return arguments


def write_json(arguments: argparse.Namespace, tables: Iterable[Mapping[str, Any]]) -> None:
    """Write all tables with the machine, the date and the command, when --json was given."""
    if arguments.json is None:
        return
    facts = {
        "machine": describe_machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "tables": list(tables),
    }
    arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


def describe_machine() -> str:
    """Processor, cores and memory in one line."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {pages:.0f} GiB"


def describe_load() -> str:
    """How busy the machine is with other things."""
    return f"load {os.getloadavg()[0]:.1f}"


def forget_files(paths: Iterable[Path]) -> None:
    """Drop files from the page cache, so that the next reader meets the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_through(paths: Iterable[Path], *, block_bytes: int = 4 * 1024**2) -> int:
    """Every byte of the files into one reused buffer, in order: the storage's limit, warm or cold."""
    buffer = bytearray(block_bytes)
    total = 0
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            at = 0
            while got := os.preadv(descriptor, [buffer], at):
                at += got
            total += at
        finally:
            os.close(descriptor)
    return total
