"""What the confined reader says of honest and hostile files, and the pictures that it draws."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from beamhub_catalogue.harvest import MAX_PREVIEW_BYTES, PNG_SIGNATURE
from beamhub_catalogue.reader import FileReader
from catalogue.catalogue_parts import Facility, write_master, write_product
from catalogue.hostile_files import (
    SECRET,
    ask,
    reader_of,
    report_on,
    write_raw_storage_elsewhere,
    write_secret,
    write_virtual,
)

pytestmark = pytest.mark.slow


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


def test_an_honest_file_is_read(reader: FileReader, raw: Path) -> None:
    report = report_on(reader, write_master(raw / "a.h5", experiment_identifier="OP-1"), preview=True)
    assert (report.title, report.experiment_identifier, report.sample) == ("Si powder", "OP-1", "Si")
    energy = next(p for p in report.parameters if p.name == "photon_energy")
    assert energy.value == pytest.approx(24.797, abs=0.001)
    assert energy.unit == "keV"


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
