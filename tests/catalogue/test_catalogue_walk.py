"""The walk over a pool: what it finds, what it reports, and what it never follows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.walk import MAX_DEPTH, FoundFile, WalkProblem, found_file, walk_pool
from beamhub_core.config.storage import PoolConfig
from catalogue.catalogue_parts import Facility, write_master
from catalogue.hostile_files import bound_by_modes


@pytest.fixture
def pool(tmp_path: Path) -> PoolConfig:
    """An empty pool."""
    return pool_in(tmp_path / "pool")


def pool_in(root: Path) -> PoolConfig:
    root.mkdir()
    return PoolConfig.model_validate({"name": "pool", "root": str(root), "target": str(root)})


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def files(pool: PoolConfig, folder: str | None = None) -> list[str]:
    return sorted(found.path for found in walk_pool(pool, folder) if isinstance(found, FoundFile))


def problems(pool: PoolConfig, folder: str | None = None) -> dict[str, str]:
    return {f.path: f.reason for f in walk_pool(pool, folder) if isinstance(f, WalkProblem)}


def test_files_are_found_by_suffix_at_any_depth(pool: PoolConfig) -> None:
    for name in ("a.h5", "b.NXS", "c.hdf5", "d.nexus", "e.txt", "f.h5.part", "g"):
        touch(pool.root / "MA-2/raw/scan 1" / name)
    assert [Path(name).name for name in files(pool)] == ["a.h5", "b.NXS", "c.hdf5", "d.nexus"]
    assert problems(pool) == {}


def test_hidden_names_are_skipped(pool: PoolConfig) -> None:
    for path in (".a.h5", "MA-2/.b.h5", "MA-2/.tmp/c.h5", ".snapshots/MA-2/d.h5"):
        touch(pool.root / path)
    assert list(walk_pool(pool)) == []


@pytest.mark.parametrize("folder", ["P1", "P1/raw"])
def test_a_folder_does_not_stand_for_another_whose_name_begins_alike(pool: PoolConfig, folder: str) -> None:
    for path in ("P1/raw/a.h5", "P10/raw/a.h5", "P1-x/raw/a.h5", "P1/raw2/a.h5"):
        touch(pool.root / path)
    expected = ["P1/raw/a.h5", "P1/raw2/a.h5"] if folder == "P1" else ["P1/raw/a.h5"]
    assert files(pool, folder) == expected
    assert {f.proposal for f in walk_pool(pool) if isinstance(f, FoundFile)} == {"P1", "P10", "P1-x"}


def test_products_are_told_by_a_whole_folder_name(pool: PoolConfig) -> None:
    for path in ("P1/processed/a.h5", "P1/processed2/a.h5", "P1/raw/processed/a.h5", "P1/processed.h5"):
        touch(pool.root / path)
    processed = [f.path for f in walk_pool(pool) if isinstance(f, FoundFile) and f.is_processed]
    assert processed == ["P1/processed/a.h5"]


class TestLinks:
    """Symbolic links, fifos and other things that are no files."""

    def test_links_are_not_followed_and_those_that_leave_the_pool_are_named(
        self, pool: PoolConfig, tmp_path: Path
    ) -> None:
        outside, inside = touch(tmp_path / "secret/a.h5"), touch(pool.root / "MA-2/raw/a.h5")
        beside = touch(tmp_path / "pool-2/a.h5")
        places = pool.root / "MA-2" / "raw"
        links = {
            "out.h5": outside,
            "beside.h5": beside,
            "in.h5": inside,
            "dir": outside.parent,
            "up": Path(".."),
        }
        for name, target in {
            **links,
            "dangling.h5": Path("/nowhere/x.h5"),
            "loop.h5": Path("loop.h5"),
        }.items():
            (places / name).symlink_to(target)
        assert files(pool) == ["MA-2/raw/a.h5"]
        named = {"MA-2/raw/out.h5", "MA-2/raw/beside.h5", "MA-2/raw/dangling.h5"}
        assert problems(pool).keys() == named
        assert set(problems(pool).values()) == {"is a link that leads out of the pool"}

    @pytest.mark.parametrize("folder", ["../secret", "MA-2/../../secret", "link", "gone", "MA-2/raw/a.h5"])
    def test_a_folder_that_is_none_of_the_pool_is_not_walked(
        self, pool: PoolConfig, tmp_path: Path, folder: str
    ) -> None:
        touch(tmp_path / "secret/MA-2/a.h5")
        touch(pool.root / "MA-2/raw/a.h5")
        (pool.root / "link").symlink_to(tmp_path / "secret")
        assert files(pool, folder) == []
        assert list(problems(pool, folder)) == [folder]

    def test_what_is_no_file_is_left_alone(self, pool: PoolConfig) -> None:
        (pool.root / "MA-2").mkdir()
        os.mkfifo(pool.root / "MA-2/fifo.h5")
        (pool.root / "MA-2/folder.h5").mkdir()
        assert list(walk_pool(pool)) == []

    def test_a_pool_whose_root_is_a_link_is_walked_at_its_real_place(
        self, pool: PoolConfig, tmp_path: Path
    ) -> None:
        touch(pool.root / "MA-2/a.h5")
        (tmp_path / "alias").symlink_to(pool.root)
        alias = pool.model_copy(update={"root": tmp_path / "alias"})
        assert files(alias) == ["MA-2/a.h5"]

    def test_one_file_is_found_by_its_real_path_only(self, pool: PoolConfig, tmp_path: Path) -> None:
        inside, outside = touch(pool.root / "MA-2/raw/a.h5"), touch(tmp_path / "pool2/a.h5")
        (pool.root / "link.h5").symlink_to(inside)
        found = found_file(pool, inside)
        assert found is not None
        assert found.path == "MA-2/raw/a.h5"
        for other in (outside, pool.root / "link.h5", inside.parent, pool.root / "MA-2/../MA-2/raw/a.h5"):
            assert found_file(pool, other) is None


class TestProblems:
    """What a person must look at; the rest is found all the same."""

    def test_a_folder_without_rights_is_reported(self, pool: PoolConfig) -> None:
        touch(pool.root / "MA-2/closed/a.h5")
        touch(pool.root / "MA-2/open/a.h5")
        closed = pool.root / "MA-2/closed"
        closed.chmod(0)
        try:
            with bound_by_modes():
                assert files(pool) == ["MA-2/open/a.h5"]
                assert problems(pool) == {"MA-2/closed": "cannot be listed: Permission denied"}
        finally:
            closed.chmod(0o700)

    def test_files_that_may_be_listed_but_not_looked_at_are_reported(self, pool: PoolConfig) -> None:
        touch(pool.root / "MA-2/listed/a.h5")
        touch(pool.root / "MA-2/open/a.h5")
        listed = pool.root / "MA-2/listed"
        listed.chmod(0o400)
        try:
            with bound_by_modes():
                assert files(pool) == ["MA-2/open/a.h5"]
                assert problems(pool) == {"MA-2/listed/a.h5": "cannot be looked at: Permission denied"}
        finally:
            listed.chmod(0o700)

    @pytest.mark.parametrize("name", [b"a\xff.h5", b"a\nb.h5", b"a\x1b[0m.h5", "a\u202eb.h5".encode()])
    def test_a_name_that_is_no_plain_text_is_reported(self, pool: PoolConfig, name: bytes) -> None:
        touch(pool.root / "MA-2/good.h5")
        touch(Path(os.fsdecode(os.fsencode(pool.root) + b"/MA-2/" + name)))
        assert files(pool) == ["MA-2/good.h5"]
        (told,) = problems(pool)
        assert told.encode()
        assert "not plain text" in problems(pool)[told]

    def test_files_in_a_folder_whose_name_is_no_plain_text_are_reported(self, pool: PoolConfig) -> None:
        touch(Path(os.fsdecode(os.fsencode(pool.root) + b"/MA-2/d\xe9/a.h5")))
        assert list(problems(pool)) == ["MA-2/d\\udce9/a.h5"]
        assert files(pool) == []

    def test_files_beside_or_in_no_proposal_are_reported(self, pool: PoolConfig) -> None:
        for path in ("stray.h5", "-odd-/a.h5", "a b/a.h5", "P\u00e9/a.h5"):
            touch(pool.root / path)
        assert files(pool) == []
        assert problems(pool).keys() == {"stray.h5", "-odd-/a.h5", "a b/a.h5", "P\u00e9/a.h5"}

    def test_folders_that_never_end_are_reported(self, pool: PoolConfig) -> None:
        touch(pool.root / "/".join(["d"] * (MAX_DEPTH + 5)) / "a.h5")
        assert files(pool) == []
        assert list(problems(pool).values()) == [f"lies deeper than {MAX_DEPTH} folders"]

    def test_a_pool_that_is_not_mounted_is_reported(self, pool: PoolConfig) -> None:
        pool.root.rmdir()
        assert list(problems(pool)) == [""]


def test_names_that_are_no_text_do_not_stop_a_scan(facility: Facility, service: CatalogueService) -> None:
    raw = facility.pool / "OP-1" / "raw"
    good = write_master(raw / "good.h5", experiment_identifier="OP-1")
    for name in (b"odd\xff.h5", b"two\nlines.h5"):
        (raw / os.fsdecode(name)).write_bytes(good.read_bytes())
    odd_folder = raw / os.fsdecode(b"d\xe9j\xe0")
    odd_folder.mkdir()
    (odd_folder / "a.h5").write_bytes(good.read_bytes())
    report = service.harvester.scan()
    assert report.harvested == ["test:OP-1:good"]
    assert len(report.problems) == 3
    assert len([p for p in service.health().problems if p.source == "harvest:pool"]) == 3


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00:00", "9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+14:00"]
)
def test_a_time_at_the_calendars_end_does_not_stop_a_scan(
    facility: Facility, service: CatalogueService, when: str
) -> None:
    raw = facility.pool / "OP-1" / "raw"
    write_master(raw / "a.h5", experiment_identifier="OP-1", start_time=when, end_time=when)
    write_master(raw / "b.h5", experiment_identifier="OP-1")
    assert service.harvester.scan().harvested == ["test:OP-1:a", "test:OP-1:b"]


NAMES = st.sampled_from(
    ["P1", "P10", "p1", "raw", "processed", "a.h5", "b.nxs", ".h.h5", "x.txt", "c d", "-q"]
)


@given(paths=st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=10))
def test_every_file_found_is_a_file_below_the_root_in_its_proposals_folder(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str]
) -> None:
    pool = pool_in(tmp_path_factory.mktemp("walk") / "pool")
    for path in paths:
        place = pool.root / path
        if not any(p.is_file() for p in place.parents) and not place.exists():
            touch(place)
    for found in walk_pool(pool):
        if isinstance(found, FoundFile):
            assert found.absolute == pool.root.resolve() / found.path
            assert found.path.startswith(f"{found.proposal}/")
            assert found == found_file(pool, found.absolute)
            assert not any(part.startswith(".") for part in Path(found.path).parts)
            assert files(pool, found.proposal).count(found.path) == 1
