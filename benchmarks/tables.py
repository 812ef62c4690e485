"""The tables of docs/explanation/reduction-speed.md, from what `make bench` wrote: no number there is typed.

    python benchmarks/tables.py            writes them between the two marks of the page
    python benchmarks/tables.py --check    fails when the page says something else than the files

The first table holds what is wanted beside what was measured; then every table of every file follows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "measurements"
PAGE = ROOT / "docs" / "explanation" / "reduction-speed.md"
BEGIN, END = "<!-- written by benchmarks/tables.py -->", "<!-- end of what benchmarks/tables.py writes -->"
ORDER = (
    "azimuthal", "statistics", "tomography", "xrf", "events", "xfel", "fly_scan", "scaling", "chunk_index",
)  # fmt: skip
LIMIT, PEER, SECONDS = "the limit", "the peer", "seconds"

Measured = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of one row, found by the beginnings of its table's title and of its name.

    `row` may also be a number that stands in the table beside its rows. `against` is LIMIT, PEER or the
    beginning of another row's name for a ratio of rates, SECONDS for the median of the times, or None for the
    rate itself. `value` is the least that is wanted, or with `at_most` the most.
    """

    benchmark: str
    title: str
    row: str
    against: str | None
    value: float
    says: str
    at_most: bool = False


# Source: the workloads B1 to B8 of the reduction's issue.
WISHES = (
    Wish("azimuthal", "B1 warm", "ours, one thread", LIMIT, 0.8, "B1, warm, of decode + kernel"),
    Wish("azimuthal", "B1 warm", "ours, one thread", "naive", 25, "B1, warm, times naive Dask"),
    Wish("azimuthal", "B1 warm", "ours, one thread", "best peer", 3, "B1, warm, times bslz4_to_sparse"),
    Wish("azimuthal", "B1 cold", "ours, two threads", LIMIT, 0.9, "B1, cold, of the disk"),
    Wish("statistics", "B2", "ours: pixels and frames", LIMIT, 0.85, "B2, of decode + kernel"),
    Wish("tomography", "B3", "ours, two threads", LIMIT, 0.9, "B3, cold, of the disk"),
    Wish("tomography", "B3", "ours, one thread", "dask.array, 1 thread", 5, "B3, warm, times naive Dask"),
    Wish("tomography", "B3", "peak resident memory", None, 2, "B3, GiB of memory", at_most=True),
    Wish("xrf", "B4", "ours, one thread", "h5py, row by row", 5, "B4, times h5py"),
    Wish(
        "events", "events in memory", "ours, time", None, 1000, "B5, million events a second, 1-D, in memory"
    ),
    Wish("events", "", "ours, map of 1e5 pixels", None, 200, "B5, million events a second, pixel by time"),
    Wish("xfel", "", "ours", PEER, 5, "B6, times an EXtra-data loop"),
    Wish("fly_scan", "B7", "to_naive", None, 20, "B7, times naive Dask"),
    Wish(
        "fly_scan", "B7 plan", "plan of 400 files", SECONDS, 1, "B7, seconds to plan 400 files", at_most=True
    ),
    Wish("fly_scan", "B7 plan", "plan of 1600 files", PEER, 0.9, "B7, rate of planning 1600 files, of 400"),
    Wish("scaling", "weak scaling", "2 threads", "1 threads", 0.9, "B8, weak scaling, two of one"),
    Wish("scaling", "kill -9", "one is killed midway", "all four live", 0.8, "B8, rate with a killed worker"),
)
# A wish that names one of these is about tables whose titles do.
KINDS = ("warm", "cold")


def read_measurements(folder: Path) -> dict[str, Measured]:
    """What each benchmark of the reduction wrote, by its name, in the order of the workloads."""
    found = {path.stem.removeprefix("reduction-"): path for path in folder.glob("reduction-*.json")}
    names = [*(name for name in ORDER if name in found), *sorted(set(found) - set(ORDER))]
    read = {name: json.loads(found[name].read_text("utf-8")) for name in names}
    for name, facts in read.items():
        if "--quick" in facts["command"].split():
            raise SystemExit(
                f"{found[name].name} is of a quick run, whose times say nothing: make bench BENCHES={name}"
            )
    return read


def build_text(measured: Mapping[str, Measured]) -> str:
    """Everything between the marks."""
    if not measured:
        return "Nothing was measured yet; `make bench` does it.\n"
    parts = [_wished(measured)]
    for name, facts in measured.items():
        head = f"## {name}\n\n{facts['machine']}, {facts['date']}: `{facts['command']}`\n"
        parts += [head, *(_table(table) for table in facts["tables"])]
    return "\n".join(parts)


def _wished(measured: Mapping[str, Measured]) -> str:
    lines = ["| Workload | Wanted | Measured |", "| --- | ---: | ---: |"]
    for wish in WISHES:
        values = list(_values(wish, measured.get(wish.benchmark, {"tables": []})))
        shown = "; ".join(map(_number, values)) or "not measured"
        lines.append(f"| {wish.says} | {'<=' if wish.at_most else '>='} {wish.value:g} | {shown} |")
    said = "Several numbers in one line: one for each table below that it is about, in their order."
    return "\n".join([*lines, "", said, ""])


def _values(wish: Wish, facts: Measured) -> Iterator[float]:
    """One number for each table that the wish is about: dtypes, codecs, kinds of result."""
    kinds = [kind for kind in KINDS if kind in wish.says.split(", ")]
    for table in facts["tables"]:
        title = table["title"]
        if not title.startswith(wish.title) or not all(kind in title for kind in kinds):
            continue
        if wish.row in table:  # a fact of the whole table
            yield table[wish.row]
            continue
        row = _row(table, wish.row)
        if row is not None:
            yield from _value(wish.against, row, table)
        elif wish.against is None and title.endswith(wish.row):
            yield table["rows"][0]["rate"]


def _value(against: str | None, row: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[float]:
    """The number of one row, if its table has what it is compared with."""
    share = {LIMIT: "share_of_limit", PEER: "to_peer"}.get(against or "")
    if share is not None:
        yield from (row[key] for key in (share,) if key in row)
    elif against == SECONDS:
        yield statistics.median(row["wall_s"])
    elif against is None:
        yield row["rate"]
    elif (other := _row(table, against)) is not None:
        yield row["rate"] / other["rate"]


def _row(table: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The row of that name, else the first that begins with it."""
    rows = [row for row in table["rows"] if str(row.get("name", "")).startswith(name)]
    exact = [row for row in rows if row.get("name") == name]
    return next(iter(exact or rows), None)


def _table(table: Mapping[str, Any]) -> str:
    """One table of a benchmark; what is no rate is listed below it."""
    rates = [row for row in table["rows"] if "rate" in row and "name" in row]
    facts = {key: value for key, value in table.items() if isinstance(value, int | float) and key != "limit"}
    for row in table["rows"]:
        if row not in rates:
            facts |= {key: value for key, value in row.items() if isinstance(value, int | float)}
    lines = [f"**{table['title']}**", ""]
    if rates:
        lines += [f"| | {rates[0]['unit']} | slowest to fastest | of the peer | of the limit |"]
        lines += [
            "| --- | ---: | ---: | ---: | ---: |",
            *(_line(row, table.get("peer")) for row in rates),
            "",
        ]
    if facts:
        unit = f" {table['unit']}" if "unit" in table and not rates else ""
        said = (f"{key} {_number(value)}{unit}" for key, value in facts.items())
        lines += [", ".join(said) + ".", ""]
    return "\n".join(lines)


def _line(row: Mapping[str, Any], peer: str | None) -> str:
    name = f"{row['name']} (the peer)" if row["name"] == peer else row["name"]
    of_peer = f"{row['to_peer']:.2f} x" if "to_peer" in row else ""
    of_limit = f"{row['share_of_limit']:.2f}" if "share_of_limit" in row else ""
    spread = f"{_number(row['slowest'])} to {_number(row['fastest'])}"
    return f"| {name.replace('|', '/')} | {_number(row['rate'])} | {spread} | {of_peer} | {of_limit} |"


def _number(value: float) -> str:
    """Three digits that count, and never an exponent for a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def replace_between_marks(page: str, text: str) -> str:
    """The page with another text between its marks; raises SystemExit where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no two marks: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{behind}"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when the page is not current"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the JSON files are")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    stands = arguments.page.read_text("utf-8")
    wanted = replace_between_marks(stands, build_text(read_measurements(arguments.folder)))
    if arguments.check and stands != wanted:
        print(f"{arguments.page.name} does not say what the files say: python benchmarks/tables.py writes it")
        return 1
    if not arguments.check:
        arguments.page.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
