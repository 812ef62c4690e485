"""Numbers for accounts that have none: kept, and never given twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub_spawners.uid_registry import FILE_NAME, NoNumber, UidRegistry

FIRST = 200_000_000


@settings(max_examples=30)
@given(accounts=st.lists(st.text(max_size=8), min_size=1, max_size=12))
def test_no_two_accounts_ever_have_one_number_and_each_keeps_its_own(
    accounts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("registry")
    size = len(set(accounts))  # so tight that hashes meet
    given_out = [UidRegistry(folder, FIRST, size=size).uid_of(account) for account in accounts]
    assert len(set(given_out)) == size
    assert all(FIRST <= uid < FIRST + size for uid in given_out)
    again = UidRegistry(folder, FIRST, size=size)
    assert [again.uid_of(account) for account in reversed(accounts)] == given_out[::-1]


def test_when_all_are_given_out_the_next_account_gets_none(tmp_path: Path) -> None:
    registry = UidRegistry(tmp_path, FIRST, size=2)
    kept = registry.uid_of("a"), registry.uid_of("b")
    with pytest.raises(NoNumber, match="all 2 numbers are given out"):
        registry.uid_of("c")
    assert (registry.uid_of("a"), registry.uid_of("b")) == kept


def test_processes_at_once_give_no_number_twice(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\nfrom pathlib import Path\n"
        "from beamhub_spawners.uid_registry import UidRegistry\n"
        f"registry = UidRegistry(Path(sys.argv[1]), {FIRST}, size=200)\n"
        "for i in range(20): print(registry.uid_of(f'{sys.argv[2]}-{i}'))\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path, word], stdout=subprocess.PIPE, text=True)
        for word in ("one", "two", "three")
    ]
    said = [child.communicate(timeout=60)[0].split() for child in children]
    assert len({uid for uids in said for uid in uids}) == 60


def test_a_broken_registry_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(NoNumber, match="DatabaseError"):
        UidRegistry(tmp_path, FIRST).uid_of("a")


def test_the_registry_is_its_owners_alone(tmp_path: Path) -> None:
    UidRegistry(tmp_path / "state", FIRST).uid_of("a")
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600
