"""The confined reader: what files of unknown honesty cost, and what they cannot get."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue.file_report import ChildSettings
from beamhub_catalogue.harvest import MAX_PREVIEW_BYTES, PNG_SIGNATURE
from beamhub_catalogue.reader import FileReader
from beamhub_core.landlock import available_abi
from catalogue.catalogue_parts import Facility, write_master, write_product
from catalogue.hostile_files import (
    SECRET,
    ask,
    child_pids,
    reader_of,
    report_on,
    write_bomb,
    write_frame_bomb,
    write_raw_storage_elsewhere,
    write_secret,
    write_virtual,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Facility, FileReader]]:
    """A facility and a reader whose child runs already, for tests that do not make it end."""
    facility = Facility(tmp_path_factory.mktemp("shared"))
    facility.prepare()
    with reader_of(facility) as made:
        report_on(made, write_master(facility.pool / "OP-1" / "first.h5"))
        yield facility, made


@pytest.fixture
def reader(shared: tuple[Facility, FileReader]) -> FileReader:
    """The shared reader, with the usual limits."""
    return shared[1]


@pytest.fixture
def raw(shared: tuple[Facility, FileReader]) -> Path:
    """A folder of raw data that the shared reader may read."""
    return Path(tempfile.mkdtemp(dir=shared[0].pool / "OP-1"))


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


def test_an_honest_file_is_read(reader: FileReader, raw: Path) -> None:
    report = report_on(reader, write_master(raw / "a.h5", experiment_identifier="OP-1"), preview=True)
    assert (report.title, report.experiment_identifier, report.sample) == ("Si powder", "OP-1", "Si")
    energy = next(p for p in report.parameters if p.name == "photon_energy")
    assert energy.value == pytest.approx(24.797, abs=0.001)
    assert energy.unit == "keV"


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
            before = child_pids()
            report_on(reader, good)
            (child,) = child_pids() - before
            os.kill(child, signal.SIGSTOP)
            answer = ask(reader, good)
            assert answer.outcome == "damaged"
            assert answer.reason == "Reading it took longer than 1 s."
            assert child not in child_pids()
            report_on(reader, good)

    def test_a_child_that_dies_is_replaced(self, facility: Facility, own_raw: Path) -> None:
        good = write_master(own_raw / "good.h5")
        with reader_of(facility) as reader:
            before = child_pids()
            report_on(reader, good)
            (child,) = child_pids() - before
            os.kill(child, signal.SIGKILL)
            reason = ask(reader, good).reason or ""
            assert "process" in reason
            report_on(reader, good)

    def test_a_reading_under_way_can_be_cancelled(self, facility: Facility, own_raw: Path) -> None:
        good = write_master(own_raw / "good.h5")
        with reader_of(facility, reader_timeout_s=60) as reader:
            before = child_pids()
            report_on(reader, good)
            (child,) = child_pids() - before
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


class TestHostileContent:
    """What a file says that it should not."""

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_a_truncated_file_is_damaged(self, reader: FileReader, raw: Path, part: float) -> None:
        path = write_master(raw / "a.h5")
        os.truncate(path, int(path.stat().st_size * part))
        assert ask(reader, path).outcome == "damaged"

    @pytest.mark.parametrize("words", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 5000])
    def test_what_only_looks_like_hdf5_is_damaged(self, reader: FileReader, raw: Path, words: bytes) -> None:
        (raw / "a.h5").write_bytes(words)
        assert ask(reader, raw / "a.h5").outcome == "damaged"

    def test_every_file_of_a_batch_stands_for_itself(self, reader: FileReader, raw: Path) -> None:
        good = [write_master(raw / f"{i}.h5", title=f"Title {i}") for i in range(4)]
        (raw / "bad.h5").write_bytes(good[0].read_bytes()[:3000])
        order = [good[0], raw / "bad.h5", good[1], raw / "gone.h5", good[2], raw, good[3]]
        outcomes = [ask(reader, path) for path in order]
        titles = [answer.report.title if answer.report else None for answer in outcomes]
        assert titles == ["Title 0", None, "Title 1", None, "Title 2", None, "Title 3"]

    def test_raw_bytes_of_a_file_elsewhere_are_not_read(
        self, reader: FileReader, raw: Path, tmp_path: Path
    ) -> None:
        text, _ = write_secret(tmp_path / "secret")
        for elsewhere in (str(text), os.path.relpath(text, raw), "/etc/passwd"):
            path = write_raw_storage_elsewhere(raw / "a.h5", elsewhere)
            answer = ask(reader, path, preview=True)
            said = answer.model_dump_json()
            assert "root:x" not in said
            assert answer.report is None or not answer.report.has_preview

    def test_links_to_files_elsewhere_are_named_and_not_read(
        self, reader: FileReader, raw: Path, tmp_path: Path
    ) -> None:
        text, hdf5 = write_secret(tmp_path / "secret")
        (raw / "inside.h5").symlink_to(hdf5)
        targets = ("/etc/passwd", str(text), str(hdf5), os.path.relpath(hdf5, raw), "inside.h5")
        for i, target in enumerate(targets):
            path = write_master(raw / f"{i}.h5", links={"data": target})
            with h5py.File(path, "r+") as file:
                del file["entry/title"]
                file["entry/title"] = h5py.ExternalLink(target, "/entry/title")
            report = report_on(reader, path, preview=True)
            assert SECRET not in report.model_dump_json()
            assert report.title is None
            assert report.linked_files == ()
            assert not report.has_preview
            assert report.missing_links != ()
            files = {link.file for link in report.missing_links}
            assert files == ({str(raw / "inside.h5")} if target == "inside.h5" else {None})

    def test_a_virtual_dataset_over_a_file_elsewhere_shows_nothing_of_it(
        self, reader: FileReader, raw: Path, tmp_path: Path
    ) -> None:
        _, hdf5 = write_secret(tmp_path / "secret")
        answer = ask(reader, write_virtual(raw / "a.h5", str(hdf5)), preview=True)
        assert answer.report is None or not answer.report.has_preview
        assert answer.report is None or answer.report.linked_files == ()

    def test_a_file_outside_of_the_roots_is_not_read(self, reader: FileReader, tmp_path: Path) -> None:
        _, hdf5 = write_secret(tmp_path / "secret")
        answer = ask(reader, hdf5)
        assert answer.outcome == "damaged"
        assert SECRET not in answer.model_dump_json()

    def test_links_in_a_circle_end(self, reader: FileReader, raw: Path) -> None:
        path = write_master(raw / "a.h5")
        with h5py.File(path, "r+") as file:
            file["entry/again"] = file["entry"]
            file["entry/soft"] = h5py.SoftLink("/entry/soft")
            file["entry/one"], file["entry/other"] = (
                h5py.SoftLink("/entry/other"),
                h5py.SoftLink("/entry/one"),
            )
            file["entry/outside"] = h5py.ExternalLink("b.h5", "/entry/outside")
        write_master(raw / "b.h5")
        with h5py.File(raw / "b.h5", "r+") as file:
            file["entry/outside"] = h5py.ExternalLink("a.h5", "/entry/outside")
        assert report_on(reader, path).title == "Si powder"

    def test_two_thousand_groups_are_walked(self, reader: FileReader, raw: Path) -> None:
        path = write_master(raw / "a.h5")
        with h5py.File(path, "r+") as file:
            for i in range(2_000):
                file.create_group(f"entry/collection/g{i}").attrs["NX_class"] = "NXcollection"
        assert report_on(reader, path).title == "Si powder"

    def test_deep_groups_end(self, reader: FileReader, raw: Path) -> None:
        path = write_master(raw / "a.h5")
        with h5py.File(path, "r+") as file:
            file.create_group("entry" + "/g" * 2_000)
        answer = ask(reader, path)
        assert answer.report is None or answer.report.title == "Si powder"
        assert report_on(reader, write_master(raw / "b.h5")).title == "Si powder"

    def test_zeros_controls_and_broken_unicode_stay_out_of_the_report(
        self, reader: FileReader, raw: Path
    ) -> None:
        path = write_master(raw / "a.h5", title="x")
        with h5py.File(path, "r+") as file:
            entry = file["entry"]
            del entry["title"], entry["sample/name"]
            entry["title"] = np.bytes_(b"Si\x1b[31m \xff\xfe\nred\r\n")
            entry["sample/name"] = np.array(b"a\0b", dtype="S8")
            for name in (b"line\nbreak", b"\x1b[0m"):
                h5py.h5g.create(entry.id, name)
            entry["broken"] = h5py.ExternalLink("no\x1bsuch\n.h5", "/entry/\x07")
        report = report_on(reader, path)
        assert report.title is not None
        texts = [report.title, report.sample, *(link.target for link in report.missing_links)]
        assert all(text is None or text.isprintable() for text in texts)

    def test_a_member_whose_name_is_no_text_costs_its_file_only(self, reader: FileReader, raw: Path) -> None:
        path = write_master(raw / "a.h5")
        with h5py.File(path, "r+") as file:
            h5py.h5g.create(file["entry"].id, b"odd\xff")
        assert ask(reader, path).outcome in ("read", "damaged")
        assert report_on(reader, write_master(raw / "b.h5")).title == "Si powder"

    def test_numbers_that_are_none_do_not_cost_the_file(self, reader: FileReader, raw: Path) -> None:
        for i, value in enumerate((np.nan, np.inf, -1.0, 0.0, 1e308, 5e-324)):
            path = write_master(raw / f"{i}.h5")
            with h5py.File(path, "r+") as file:
                file["entry/instrument/monochromator/wavelength"][...] = value
            assert report_on(reader, path).title == "Si powder"

    @pytest.mark.parametrize(
        "name", ["n" * 300 + ".h5", "d/" * 3000 + "x.h5", "../" * 40 + "etc/shadow", "."]
    )
    def test_a_broken_link_names_only_files_that_the_pool_could_hold(
        self, reader: FileReader, raw: Path, name: str
    ) -> None:
        report = report_on(reader, write_master(raw / "a.h5", links={"data": name}))
        assert {link.file for link in report.missing_links} <= {None, str(raw)}

    def test_a_broken_link_inside_the_pool_names_its_file(self, reader: FileReader, raw: Path) -> None:
        report = report_on(reader, write_master(raw / "a.h5", links={"data": "../det/f0.h5"}))
        assert [link.file for link in report.missing_links] == [str(raw.parent / "det" / "f0.h5")]


class TestPreview:
    """The picture."""

    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 16, 16), (2, 2_000, 1_500), (4, 3, 5_000)])
    def test_it_is_a_small_png_whatever_the_frames_are(
        self, reader: FileReader, raw: Path, shape: tuple[int, ...]
    ) -> None:
        path = write_master(raw / "a.h5", experiment_identifier="OP-1")
        with h5py.File(path, "r+") as file:
            del file["entry/instrument/detector/data"]
            frames = np.random.default_rng(3).poisson(3, shape).astype("u4")
            frames[0, 0, 0] = 2**32 - 1
            file["entry/instrument/detector/data"] = frames
        assert report_on(reader, path, preview=True).has_preview
        png = (reader.scratch / "preview.png").read_bytes()
        assert png.startswith(PNG_SIGNATURE)
        width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
        assert (width, height) == (640, 480)
        assert len(png) < MAX_PREVIEW_BYTES / 10

    @pytest.mark.parametrize("value", [0, np.nan, np.inf, -5.0, 1e30])
    def test_odd_values_give_a_picture_or_none_and_a_dataset_always(
        self, reader: FileReader, raw: Path, value: float
    ) -> None:
        path = write_master(raw / "a.h5", experiment_identifier="OP-1")
        with h5py.File(path, "r+") as file:
            del file["entry/instrument/detector/data"]
            file["entry/instrument/detector/data"] = np.full((2, 8, 8), value, "f4")
        assert report_on(reader, path, preview=True).title == "Si powder"

    @pytest.mark.parametrize("values", [[np.nan] * 4, [np.inf] * 4, [1e308, -1e308, 0, 1], []])
    def test_an_odd_curve_does_not_cost_its_product(
        self, reader: FileReader, raw: Path, values: list[float]
    ) -> None:
        path = write_product(raw / "p.h5", "x")
        with h5py.File(path, "r+") as file:
            data = file["entry/data"]
            del data["q"], data["intensity"]
            data["q"], data["intensity"] = np.arange(len(values)) * 1.0, np.array(values, "f8")
            data["q"].attrs["units"] = "$\\frac{"
            data["intensity"].attrs["units"] = "\\undefined{$$"
        assert report_on(reader, path, preview=True).provenance is not None


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
