"""Which groups a session gets where 16 arrive at most; with the kernel's own order of groups."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.storage import PoolConfig
from beamhub_core.rights import Refused
from beamhub_core.session import Mount
from beamhub_spawners.group_choice import MAX_SUPPLEMENTARY, choose_groups
from beamhub_spawners.mount_limits import fitting_groups
from beamhub_spawners.start_facts import StartFacts

gids = st.lists(st.integers(1, 60), max_size=40).map(tuple)


@given(gid=st.integers(1, 60), gids=gids, needed=gids)
def test_no_group_is_added_and_what_is_kept_arrives(
    gid: int, gids: tuple[int, ...], needed: tuple[int, ...]
) -> None:
    chosen = choose_groups(gid, gids, needed)
    own = set(gids) - {gid}
    assert set(chosen.kept) | set(chosen.dropped) == own
    assert not set(chosen.kept) & set(chosen.dropped)
    assert len(chosen.kept) <= MAX_SUPPLEMENTARY
    assert bool(chosen.dropped) == (len(own) > MAX_SUPPLEMENTARY)
    assert set(chosen.missing) == set(needed) & set(chosen.dropped)
    if chosen.missing:
        assert set(chosen.kept) <= set(needed)  # nothing stays that is needed less


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set groups")
def test_the_kernel_sorts_groups_so_that_only_fewer_help() -> None:
    code = "import os; os.setgroups([900, 5, 40]); print(os.getgroups())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[5, 40, 900]"


def pool(name: str, **changes: Any) -> PoolConfig:
    return PoolConfig.model_validate({"name": name, "root": f"/{name}", "target": f"/{name}", **changes})


POOLS = {"nfs": pool("nfs", group_mode="auth_sys"), "gpfs": pool("gpfs")}
MANY = tuple(range(1000, 1030))


def fitting(name: str, needed: tuple[int, ...] = ()) -> tuple[tuple[int, ...], tuple[str, ...]]:
    mount = Mount(pool=name, path="P1", source="/x/P1", target="/x/P1", mode="ro", purpose="raw")
    return fitting_groups(1000, MANY, (mount,), POOLS, StartFacts(needed_gids=needed))


def test_the_groups_of_the_folders_come_first_and_the_person_is_told() -> None:
    kept, [note] = fitting("nfs", (1029, 7))
    assert kept == (1029, *range(1001, 1015))
    assert "storage pool nfs takes (16, AUTH_SYS)" in note
    assert "1028" in note


def test_where_nobody_sees_the_folders_the_person_is_told_that_too() -> None:
    mount = Mount(pool="nfs", path="P1", source="/x/P1", target="/x/P1", mode="ro", purpose="raw")
    kept, [note] = fitting_groups(1000, MANY, (mount,), POOLS, StartFacts(needed_gids=None))
    assert kept == MANY[1:16]
    assert "the first of your list" in note


def test_a_pool_whose_server_expands_groups_takes_all() -> None:
    assert fitting("gpfs") == (MANY, ())


def test_folders_that_need_more_groups_than_arrive_are_refused_by_name() -> None:
    with pytest.raises(Refused, match="the groups 1016, 1017 would be left out") as caught:
        fitting("nfs", tuple(range(1001, 1018)))
    assert caught.value.refusal.subject == "nfs"
