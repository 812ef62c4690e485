"""What images are made of: locks, bases and who they run as."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "images"
BASE_LOCK = IMAGES / "base" / "requirements.lock"
FIELD_LOCKS = sorted((IMAGES / "field").glob("*.lock"))
ADDED_LOCKS = [*FIELD_LOCKS, IMAGES / "desktop" / "desktop.lock"]
ALL_LOCKS = [
    BASE_LOCK,
    *ADDED_LOCKS,
    *sorted((IMAGES / "service").glob("*.lock")),
    IMAGES / "proxy" / "node.lock",
]
DOCKERFILES = sorted(IMAGES.glob("*/Dockerfile"))


def locked(lock: Path = BASE_LOCK) -> Iterator[str]:
    for line in lock.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            yield line.split("==")[0]


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_with_hashes_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    assert 0 < text.count("==") == len(list(locked(lock))) <= text.count("--hash=sha256:")


def test_the_base_has_what_a_session_needs() -> None:
    assert {"jupyterhub", "jupyterlab", "h5py", "dask", "pyfai"} <= set(locked())


def test_every_field_has_a_lock_that_changes_nothing_of_the_base() -> None:
    wanted = {path.stem for path in (IMAGES / "field").glob("*.in")}
    assert {path.stem for path in FIELD_LOCKS} == wanted
    assert {"diffraction", "saxs", "tomography", "xrf", "neutron", "xfel", "gpu"} <= wanted
    for lock in ADDED_LOCKS:
        assert not set(locked(lock)) & set(locked()), lock.name


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_takes_its_base_from_outside_and_runs_as_nobody(file: Path) -> None:
    text = file.read_text()
    assert "ARG BASE=debian:bookworm-slim" in text
    assert set(re.findall(r"(?m)^FROM (\S+)", text)) <= {"${BASE}", "${SESSION}"}
    users = re.findall(r"(?m)^USER (\S+)", text)
    # PostgreSQL starts for users with an entry in passwd only, so its image has one.
    own = ("7105:7105",) if file.parent.name == "postgresql" else ()
    assert users[-1] in ("65534:65534", "65532:65532", *own)


def test_the_proxys_packages_are_pinned_by_content_and_name_no_address() -> None:
    lock = json.loads((IMAGES / "proxy" / "package-lock.json").read_text())
    packages = {name: fields for name, fields in lock["packages"].items() if name}
    assert "node_modules/configurable-http-proxy" in packages
    for name, fields in packages.items():
        assert fields["integrity"].startswith("sha512-"), name
        assert "resolved" not in fields, name
