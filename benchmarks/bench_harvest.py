"""How fast headers of NeXus files are read by the mapping, and JSON records are loaded.

    python benchmarks/bench_harvest.py [--files 1000] [--records 20000] [--quick] [--json FILE]

Headers: one thread of this process reads small masters from a warm cache, as the confined child does, without
pictures. Records: datasets with three parameters, a file and a technique each, into SQLite.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.file_reading import read_file
from beamhub_catalogue.file_report import FileRequest
from beamhub_catalogue.nexus_mapping import default_mapping
from beamhub_catalogue.told import ToldDataset
from beamhub_catalogue.told_store import Teller, store_datasets

BATCH = 500
MIN_FILES_PER_S, MIN_RECORDS_PER_S = 150, 3_000


def main() -> int:
    """Measure, print, and keep the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="little, to see that it runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    n_files, n_records = (20, 500) if arguments.quick else (arguments.files, arguments.records)
    with tempfile.TemporaryDirectory() as folder:
        figures = _headers(Path(folder), n_files) | _records(Path(folder), n_records)
    figures |= {"machine": platform.processor() or platform.machine(), "at": datetime.now(UTC).isoformat()}
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(f"limits: {MIN_FILES_PER_S} files/s, {MIN_RECORDS_PER_S} records/s")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _headers(folder: Path, n_files: int) -> dict[str, Any]:
    mapping = default_mapping()
    requests = [FileRequest(path=str(_write(folder / f"{i}.h5"))) for i in range(n_files)]
    for request in requests:
        read_file(request, mapping, (str(folder),))
    started, cpu = time.perf_counter(), time.process_time()
    for request in requests:
        read_file(request, mapping, (str(folder),))
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"header_files_per_s": round(n_files / wall, 1), "header_files_per_cpu_s": round(n_files / cpu, 1)}


def _write(path: Path) -> Path:
    """A master with what a beamline writes: instrument, source, detector, sample, a user."""
    with h5py.File(path, "w") as file:
        entry = _group(file, "entry", "NXentry", title="Si", start_time="2025-10-07T09:00:00+02:00")
        entry["experiment_identifier"], entry["definition"] = "MA-2", "NXtomo"
        instrument = _group(entry, "instrument", "NXinstrument", name="bl09")
        _group(instrument, "source", "NXsource", name="Ring", probe="x-ray")
        _group(instrument, "monochromator", "NXmonochromator", energy=12.0)
        detector = _group(instrument, "detector", "NXdetector", distance=1.0, count_time=0.1)
        detector["data"] = np.zeros((3, 16, 16), "u2")
        _group(entry, "sample", "NXsample", name="Si", temperature=300.0)
        _group(entry, "user", "NXuser", name="Ines Ferreira")
    return path


def _group(parent: Any, called: str, nx_class: str, /, **members: Any) -> Any:
    group = parent.create_group(called)
    group.attrs["NX_class"] = nx_class
    for name, value in members.items():
        group[name] = value
    return group


def _records(folder: Path, n_records: int) -> dict[str, Any]:
    database = Database(f"sqlite:///{folder}/bench.sqlite", None)
    ensure_schema(database)
    teller, now = Teller(_NoPools()), datetime.now(UTC)  # type: ignore[arg-type]  # the two facts it asks for
    records = [_record(i) for i in range(n_records)]
    started = time.perf_counter()
    for start in range(0, n_records, BATCH):
        with database.writing() as session:
            store_datasets(session, teller, records[start : start + BATCH], now)
    first = time.perf_counter() - started
    started = time.perf_counter()
    for start in range(0, n_records, BATCH):
        with database.writing() as session:
            store_datasets(session, teller, records[start : start + BATCH], now)
    again = time.perf_counter() - started
    database.close()
    return {
        "records_per_s": round(n_records / first, 1),
        "unchanged_records_per_s": round(n_records / again, 1),
    }


class _NoPools:
    """A facility without storage."""

    short_name, pools = "bench", ()


def _record(number: int) -> ToldDataset:
    values = {"temperature": (300.0, "K"), "energy": (12.0, "keV"), "frames": (100.0, None)}
    return ToldDataset.model_validate(
        {
            "source_id": f"d-{number}",
            "pid": f"bench:{number}",
            "proposal": f"P-{number % 200}",
            "title": f"Dataset {number}",
            "techniques": [{"pid": "PaNET01207", "label": "x-ray tomography"}],
            "files": [{"name": f"{number}.h5", "size_bytes": 1_000}],
            "parameters": [{"name": n, "value": v, "unit": unit} for n, (v, unit) in values.items()],
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
