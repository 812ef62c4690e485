"""Writing a product: a small NeXus file that appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from beamhub_core.product import Product
from beamhub_core.word import canonical_json
from beamhub_reduction.errors import ProductExists, ProductNotWritten, StorageFull
from beamhub_reduction.product_signals import write_signals
from beamhub_reduction.session_info import user_name
from beamhub_reduction.steps.signal import Signal

if TYPE_CHECKING:
    from beamhub_reduction.result import Result

PROGRAM = "beamhub_reduction"
_SOFTWARE = (
    "beamhub", "pyFAI", "numpy", "scipy", "h5py", "hdf5plugin", "imagecodecs", "dectris-compression", "dask",
    "distributed",
)  # fmt: skip
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class ProductContent:
    """Everything that stands in a product file."""

    title: str
    experiment_identifier: str
    start_time: str | None
    end_time: str | None
    signals: tuple[Signal, ...]
    statistics: dict[str, int]
    provenance: dict[str, Any]
    made_at: datetime
    evidence: dict[str, Any] = field(default_factory=dict)
    final: bool = True

    @classmethod
    def of(cls, result: Result, made_at: datetime, *, final: bool = True) -> ProductContent:
        """The content of a result's product; one that is not final no catalogue takes for a product."""
        session, planned = result.session, result.planned
        provenance = {
            "inputs": [planned.pid if planned else f"file:{Path(result.header.path).name}"],
            "proposal": result.proposal,
            "technique": result.technique,
            "parameters": {"step": result.step, **result.parameters},
            "software": software_versions(),
            "environment": session.environment if session else "local",
            "image": session.image if session else "local",
            "who": session.who if session else user_name(),
            "account": session.account if session else "",
            "plan_id": session.plan_id if session else None,
            "made_at": made_at.isoformat(),
            "title": result.title,
        }
        return cls(
            title=result.title,
            experiment_identifier=result.proposal,
            start_time=result.header.start_time,
            end_time=result.header.end_time,
            signals=result.signals,
            statistics=result.statistics.as_dict(),
            provenance=provenance,
            made_at=made_at,
            evidence=result.evidence,
            final=final,
        )


def software_versions() -> dict[str, str]:
    """Name to version of what a reduction depends on; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def build_product_file(content: ProductContent) -> bytes:
    """The bytes of the NeXus file, made in memory: HDF5 never meets a full disk.

    Source: NeXus NXentry, NXdata, NXprocess, NXnote; provenance after W3C PROV.
    """
    with h5py.File("product", "w", driver="core", backing_store=False) as file:
        file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": PROGRAM})
        entry = _group(file, "entry", "NXentry", default="data")
        entry["title"] = content.title
        entry["experiment_identifier"] = content.experiment_identifier
        for name, text in (("start_time", content.start_time), ("end_time", content.end_time)):
            if text:
                entry[name] = text
        process = _group(entry, "process", "NXprocess")
        process["program"] = PROGRAM
        process["version"] = content.provenance["software"].get("beamhub", "unknown")
        process["date"] = content.made_at.isoformat()
        process["sequence_index"] = 1
        _write_note(process, "provenance" if content.final else "provenance_so_far", content.provenance)
        _write_note(process, "evidence", content.evidence)
        statistics = _group(process, "statistics", "NXcollection")
        for name, count in content.statistics.items():
            statistics[name] = np.int64(count)
        write_signals(entry, content.signals)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write_note(parent: h5py.Group, name: str, facts: dict[str, Any]) -> None:
    """An NXnote with one JSON object."""
    note = _group(parent, name, "NXnote")
    note["type"] = "application/json"
    note["data"] = canonical_json(facts).decode()


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def write_product(content: ProductContent, path: Path) -> Product:
    """Write the product file and say what it is; its pid is left empty for the catalogue to give.

    Raises
    ------
    ProductExists, StorageFull, ProductNotWritten
    """
    image = build_product_file(content)
    target = path.absolute()
    write_whole(target, image)
    # Parameters as the file has them: JSON turns tuples into lists.
    facts = json.loads(canonical_json(content.provenance))
    return Product(
        pid="",
        sha256=hashlib.sha256(image).hexdigest(),
        size_bytes=len(image),
        path=str(target),
        **facts,
    )


def write_whole(path: Path, content: bytes) -> None:
    """Make a new file appear with all of its content, or not at all; it is on the disk when this returns.

    The content is written to a hidden file beside it, which then gets the name; a file of that name,
    even one made meanwhile, is never replaced.

    Raises
    ------
    ProductExists
        If the name is taken.
    StorageFull
        If the disk, the quota or the allowed file size is exceeded.
    ProductNotWritten
        For every other refusal of the storage.
    """
    if path.exists() or path.is_symlink():
        raise ProductExists(str(path))
    hidden = path.with_name(f".{path.name[:180]}.{secrets.token_hex(6)}.part")
    try:
        try:
            _write_file(hidden, content)
            give_name(hidden, path)
        finally:
            with suppress(FileNotFoundError):
                hidden.unlink()
        sync_folder(path.parent)
    except FileExistsError as error:
        raise ProductExists(str(path)) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise (StorageFull if error.errno in FULL_ERRNOS else ProductNotWritten)(str(path), reason) from error


def check_output(path: Path) -> None:
    """Refuse a product's path before the work is done: what can be known then.

    Raises
    ------
    ProductExists, ProductNotWritten
    """
    if path.is_dir():
        return
    if path.exists() or path.is_symlink():
        raise ProductExists(str(path))
    if not path.absolute().parent.is_dir():
        raise ProductNotWritten(str(path), "its folder is not there")


def replace_product(content: ProductContent, path: Path) -> None:
    """Put a state of a reduction that goes on in the place of the one before, at once and whole.

    Raises
    ------
    StorageFull, ProductNotWritten
    """
    hidden = path.with_name(f".{path.name[:180]}.{secrets.token_hex(6)}.part")
    try:
        try:
            _write_file(hidden, build_product_file(content))
            hidden.replace(path)
        finally:
            with suppress(FileNotFoundError):
                hidden.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise (StorageFull if error.errno in FULL_ERRNOS else ProductNotWritten)(str(path), reason) from error


def _write_file(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_name(hidden: Path, path: Path) -> None:
    """Name a file without replacing another one: a hard link refuses where a rename would not."""
    try:
        os.link(hidden, path)
    except OSError as error:
        if error.errno not in (
            errno.EPERM,
            errno.EOPNOTSUPP,
            errno.ENOSYS,
            errno.EXDEV,
            errno.EACCES,
            errno.EMLINK,
        ):
            raise
        # A file system without hard links: there is a moment between the question and the rename.
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from error
        hidden.rename(path)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
