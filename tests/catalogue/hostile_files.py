"""HDF5 files that mean harm or are broken, and what the tests of the confined reader share."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from beamhub_catalogue.file_report import FileAnswer, FileReport, FileRequest
from beamhub_catalogue.reader import FileReader, open_reader
from catalogue.catalogue_parts import Facility, write_master

SECRET = "root:x:0:0:a-word-that-stands-in-no-other-file"

_CAPABILITY_VERSION_3 = 0x20080522


@contextmanager
def reader_of(facility: Facility, **settings: float) -> Iterator[FileReader]:
    """A reader on the facility's pool with the limits of its configuration."""
    facility.changes = facility.changes | settings
    config = facility.config().catalogue
    with open_reader(config, (facility.pool.resolve(),), facility.folder / "web") as reader:
        yield reader


def ask(reader: FileReader, path: Path, *, preview: bool = False) -> FileAnswer:
    """The reader's answer on a file; a preview is asked for where harvest would have it."""
    picture = reader.scratch / "preview.png"
    picture.unlink(missing_ok=True)
    return reader.read(FileRequest(path=str(path), preview=str(picture) if preview else None))


def report_on(reader: FileReader, path: Path, *, preview: bool = False) -> FileReport:
    """The report on a file that must be readable."""
    answer = ask(reader, path, preview=preview)
    assert answer.outcome == "read", answer.reason
    assert answer.report is not None
    return answer.report


def write_secret(folder: Path) -> tuple[Path, Path]:
    """A text file and an HDF5 file that nobody may see; both hold `SECRET`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "passwd"
    text.write_text(SECRET * 40)
    hdf5 = write_master(folder / "secret.h5", title=SECRET)
    return text, hdf5


def write_raw_storage_elsewhere(path: Path, elsewhere: str) -> Path:
    """A master whose title, frames and attributes-to-be lie in another file as raw bytes."""
    write_master(path)
    with h5py.File(path, "r+") as file:
        entry = file["entry"]
        del entry["title"], entry["instrument/detector/data"]
        entry.create_dataset("title", (), "S46", external=[(elsewhere, 0, 46)])
        entry.create_dataset("experiment_identifier", (1,), "S46", external=[(elsewhere, 0, 46)])
        entry.create_dataset("instrument/detector/data", (2, 16, 16), "u1", external=[(elsewhere, 0, 512)])
    return path


def write_virtual(path: Path, elsewhere: str) -> Path:
    """A master whose frames are a virtual dataset over another file."""
    write_master(path)
    layout = h5py.VirtualLayout((3, 16, 16), "u2")
    layout[:] = h5py.VirtualSource(elsewhere, "/entry/instrument/detector/data", (3, 16, 16))
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/detector/data"]
        file["entry/instrument/detector"].create_virtual_dataset("data", layout)
    return path


def write_bomb(path: Path, *, name: str = "entry/title", mib: int = 400) -> Path:
    """A small file with one text of hundreds of megabytes once it is unpacked."""
    write_master(path)
    size = mib * 2**20
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, (1,), f"S{size}", chunks=(1,), compression="gzip")
        file[name][0] = b"x" * (size - 1)
    return path


def write_frame_bomb(path: Path, *, side: int = 14_000) -> Path:
    """A small file with a frame of hundreds of megabytes in one storage chunk."""
    write_master(path)
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/detector/data"]
        detector = file["entry/instrument/detector"]
        detector.create_dataset("data", (1, side, side), "u2", chunks=(1, side, side), compression="gzip")
        detector["data"][0] = np.ones((side, side), "u2")
    return path


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """Take from this thread what lets root pass over a folder's mode, and give it back."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, less) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0
