"""The confined reader: what files of unknown honesty cost, and what they cannot get."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue.file_report import ChildSettings
from beamhub_catalogue.nexus_mapping import default_mapping
from beamhub_catalogue.reader import FileReader
from beamhub_core.landlock import available_abi
from catalogue.catalogue_parts import Facility, write_master, write_product
from catalogue.hostile_files import ask, reader_of, report_on, write_bomb, write_frame_bomb
from kept_processes import child_processes

pytestmark = pytest.mark.slow


@pytest.fixture
def own_reader(facility: Facility) -> Iterator[FileReader]:
    """A reader of the test's own."""
    with reader_of(facility) as made:
        yield made


@pytest.fixture
def own_raw(facility: Facility) -> Path:
    """A folder of raw data of the test's own facility."""
    folder = facility.pool / "OP-1" / "raw"
    folder.mkdir(parents=True)
    return folder


class TestLimits:
    """Memory and time."""

    def test_a_text_that_unpacks_to_more_than_the_memory_costs_its_file_only(
        self, facility: Facility, own_raw: Path
    ) -> None:
        with reader_of(facility, reader_memory_mib=384) as reader:
            answer = ask(reader, write_bomb(own_raw / "bomb.h5"))
            assert answer.report is None or answer.report.title is None or len(answer.report.title) <= 1000
            assert report_on(reader, write_master(own_raw / "good.h5")).title == "Si powder"

    def test_a_provenance_that_unpacks_to_more_than_the_memory_costs_its_file_only(
        self, facility: Facility, own_raw: Path
    ) -> None:
        bomb = write_product(own_raw / "bomb.h5", "x")
        write_bomb_into_product(bomb)
        with reader_of(facility, reader_memory_mib=384) as reader:
            answer = ask(reader, bomb)
            assert answer.report is None or answer.report.provenance is None
            assert report_on(reader, write_master(own_raw / "good.h5")).title == "Si powder"

    def test_frames_that_do_not_fit_cost_the_preview_only(self, facility: Facility, own_raw: Path) -> None:
        with reader_of(facility, reader_memory_mib=384) as reader:
            report = report_on(reader, write_frame_bomb(own_raw / "big.h5"), preview=True)
            assert report.title == "Si powder"
            assert not report.has_preview
            assert report_on(reader, write_master(own_raw / "good.h5"), preview=True).has_preview

    def test_a_file_that_never_ends_costs_its_time_only(self, facility: Facility, own_raw: Path) -> None:
        os.mkfifo(own_raw / "fifo.h5")
        with reader_of(facility, reader_timeout_s=2.0) as reader:
            report_on(reader, write_master(own_raw / "good.h5"))
            began = time.monotonic()
            answer = ask(reader, own_raw / "fifo.h5")
            assert time.monotonic() - began < 20
            assert answer.outcome == "damaged"
            assert report_on(reader, own_raw / "good.h5").title == "Si powder"

    def test_a_child_that_hangs_is_ended_and_replaced(self, facility: Facility, own_raw: Path) -> None:
        good = write_master(own_raw / "good.h5")
        with reader_of(facility, reader_timeout_s=1.0) as reader:
            before = child_processes()
            report_on(reader, good)
            (child,) = child_processes() - before
            os.kill(child, signal.SIGSTOP)
            answer = ask(reader, good)
            assert answer.outcome == "damaged"
            assert answer.reason == "Reading it took longer than 1 s."
            assert child not in child_processes()
            report_on(reader, good)

    def test_a_child_that_dies_is_replaced(self, facility: Facility, own_raw: Path) -> None:
        good = write_master(own_raw / "good.h5")
        with reader_of(facility) as reader:
            before = child_processes()
            report_on(reader, good)
            (child,) = child_processes() - before
            os.kill(child, signal.SIGKILL)
            reason = ask(reader, good).reason or ""
            assert "process" in reason
            report_on(reader, good)

    def test_a_reading_under_way_can_be_cancelled(self, facility: Facility, own_raw: Path) -> None:
        good = write_master(own_raw / "good.h5")
        with reader_of(facility, reader_timeout_s=60) as reader:
            before = child_processes()
            report_on(reader, good)
            (child,) = child_processes() - before
            os.kill(child, signal.SIGSTOP)
            timer = threading.Timer(0.2, reader.cancel)
            timer.start()
            began = time.monotonic()
            assert ask(reader, good).outcome == "damaged"
            assert time.monotonic() - began < 30
            timer.join()
            assert ask(reader, good).reason == "The reader was stopped."


def write_bomb_into_product(path: Path) -> None:
    """Put a text of 400 MiB where the provenance is."""
    size = 400 * 2**20
    with h5py.File(path, "r+") as file:
        note = file["entry/process/provenance"]
        del note["data"]
        note.create_dataset("data", (1,), f"S{size}", chunks=(1,), compression="gzip")
        note["data"][0] = b"x" * (size - 1)


LOOK = """
import json, os, sys
from beamhub_catalogue.file_report import ChildSettings
from beamhub_catalogue.reader_child import confine
confine(ChildSettings.model_validate_json(sys.stdin.readline()))
said = {}
def attempt(name, path, mode):
    try:
        with open(path, mode) as file:
            file.read(1) if mode == "rb" else file.write("x")
        said[name] = "done"
    except OSError as error:
        said[name] = type(error).__name__
for line in sys.stdin:
    attempt(*json.loads(line))
print(json.dumps(said))
"""


@pytest.mark.skipif(available_abi() < 1, reason="needs Landlock in the kernel")
def test_the_child_cannot_open_the_database_a_secret_or_a_raw_file_to_write(
    facility: Facility, own_raw: Path
) -> None:
    replace(facility, on_sqlite=True).service().stop()
    master = write_master(own_raw / "a.h5")
    scratch, cache = facility.folder / "web" / "scratch", facility.folder / "web" / "cache"
    scratch.mkdir()
    cache.mkdir()
    words = ChildSettings(
        roots=(str(facility.pool),),
        scratch=str(scratch),
        cache=str(cache),
        mapping=default_mapping(),
        memory_bytes=2**30,
        cpu_seconds=60,
    )
    attempts = [
        ("read database", facility.folder / "web" / "web.sqlite", "rb"),
        ("write database", facility.folder / "web" / "web.sqlite", "a"),
        ("make beside database", facility.folder / "web" / "web.sqlite-wal2", "w"),
        ("read secret", facility.folder / "secrets" / "hub", "rb"),
        ("read policy", facility.folder / "policy.yaml", "rb"),
        ("read environment", f"/proc/{os.getpid()}/environ", "rb"),
        ("read raw", master, "rb"),
        ("write raw", master, "a"),
        ("make beside raw", own_raw / "new", "w"),
        ("write scratch", scratch / "x", "w"),
    ]
    lines = [words.model_dump_json(), *(json.dumps([n, str(p), m]) for n, p, m in attempts), ""]
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOOK],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    allowed = {name for name, outcome in said.items() if outcome == "done"}
    assert allowed == {"read raw", "write scratch"}
    assert set(said.values()) == {"done", "PermissionError"}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wrong_bytes_anywhere_cost_no_more_than_the_file(
    own_reader: FileReader, own_raw: Path, data: st.DataObject
) -> None:
    whole = bytearray(write_master(own_raw / "whole.h5").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 8))
        whole[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    (own_raw / "harmed.h5").write_bytes(whole)
    assert ask(own_reader, own_raw / "harmed.h5", preview=True).outcome in ("read", "damaged")
    assert report_on(own_reader, own_raw / "whole.h5").title == "Si powder"
