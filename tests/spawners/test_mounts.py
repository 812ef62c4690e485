"""Mounts that are many, that cannot be writable, or that must fit a pool's declared modes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.storage import PoolConfig
from beamhub_core.rights import Grant, Refused
from beamhub_spawners.mounts import MAX_MOUNTS, choose_mounts, covers, mounted
from beamhub_spawners.person_mounts import person_mounts, person_root
from contracts.plan_parts import CONFIG, answer_of, dataset, grant, plan
from contracts.spawner_parts import ACCOUNT, OCCASION, PLACE, docker_plan, granted_answer

NOW = OCCASION.now


def pools(**changes: Any) -> dict[str, PoolConfig]:
    fields = {"name": "hall-a", "root": "/srv/a", "target": "/data/a", **changes}
    return {"hall-a": PoolConfig.model_validate(fields)}


def many(n: int, *more: Grant) -> Any:
    paths = [f"P1/raw/scan-{i}" for i in range(n)]
    return answer_of([dataset(path) for path in paths], [*more, *(grant(path) for path in paths)])


def test_a_proposal_that_is_wholly_granted_is_mounted_whole_when_its_folders_are_too_many() -> None:
    few = plan(many(MAX_MOUNTS - 1, grant("P1")))
    assert len(few.mounts) == MAX_MOUNTS
    soon = NOW + timedelta(hours=1)
    made = plan(many(MAX_MOUNTS, grant("P1", until=soon), grant("P1/processed", "rw")))
    assert [(mount.path, mount.mode) for mount in made.mounts] == [
        ("P1", "ro"),
        ("P1/processed", "rw"),
        (ACCOUNT, "rw"),
    ]
    assert made.expires_at == soon  # the wide right is what the session needs now
    assert made.explain.notes == ("All of P1 is mounted: its folders alone would be too many.",)


def test_a_proposal_that_is_not_wholly_granted_is_never_mounted_whole() -> None:
    with pytest.raises(Refused, match="more than 64, and P1 may not be mounted as a whole"):
        plan(many(MAX_MOUNTS, grant("P10"), grant("P1/raw/scan-1")))
    with pytest.raises(Refused, match="may not be mounted as a whole"):
        plan(many(MAX_MOUNTS, grant("P1", until=NOW - timedelta(seconds=1))))


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    wholes=st.sets(st.integers(0, 5)),
    at_most=st.integers(1, 30),
)
def test_widened_mounts_show_all_that_is_wanted_and_only_what_is_granted(
    counts: list[int], wholes: set[int], at_most: int
) -> None:
    paths = [f"P{i}/raw/{j}" for i, count in enumerate(counts) for j in range(count)]
    grants = [*(grant(f"P{i}") for i in wholes), *(grant(path) for path in paths)]
    answer = answer_of([dataset(path) for path in paths], grants)
    chosen = choose_mounts(answer, pools(), at=NOW, at_most=at_most)
    folders = [mounted(mount) for mount in chosen.mounts]
    for one in answer.datasets:
        assert any(covers(folder, one.folder) for folder in folders)
    for folder in folders:
        assert any(covers(given.folder, folder) for given in grants)
    if len(paths) <= at_most:
        assert len(folders) == len(paths)
    least = sum(1 if i in wholes else count for i, count in enumerate(counts))
    assert len(folders) <= max(at_most, least)


@pytest.mark.parametrize(
    ("changes", "read_only", "words"),
    [
        ({"squash": "all"}, (), "takes everybody for nobody"),
        ({"access": "ro"}, (), "is mounted read-only"),
        ({}, ("hall-a",), "is read-only there now"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_mounted_writable(
    changes: dict[str, Any], read_only: tuple[str, ...], words: str
) -> None:
    chosen = choose_mounts(granted_answer(), pools(**changes), at=NOW, read_only=read_only)
    assert {mount.mode for mount in chosen.mounts} == {"ro"}
    [note] = chosen.notes
    assert words in note
    assert note.startswith("MA-5101/processed cannot be written here: ")


def test_a_mount_says_how_later_mounts_of_the_host_appear() -> None:
    following = pools(propagation="host_to_container", access="ro")
    chosen = choose_mounts(granted_answer(), following, at=NOW)
    assert {mount.propagation for mount in chosen.mounts} == {"host_to_container"}
    assert {mount.propagation for mount in docker_plan().mounts} == {"private"}


def test_a_name_with_a_control_character_is_refused_in_the_plan() -> None:
    with pytest.raises(Refused, match=r"demo:P1/a\\tb|P1/a.*b") as caught:
        plan(answer_of([dataset("P1/a\tb")], [grant("P1")]))
    assert "control character 0x09" in caught.value.refusal.reason


def test_home_and_scratch_lie_where_they_are_configured_and_nowhere_else() -> None:
    sessions = type(CONFIG.sessions).model_validate(
        {
            **CONFIG.sessions.model_dump(),
            "homes": {"unmapped_folder": "/srv/guests"},
            "scratch": {"folder": "/scratch"},
        }
    )
    place = PLACE.model_copy(update={"backend": "docker"})
    for is_mapped, folder in ((True, "/srv/homes"), (False, "/srv/guests")):
        home, scratch = person_mounts(ACCOUNT, place, sessions, is_mapped=is_mapped)
        assert (home.source, home.target) == (f"{folder}/{ACCOUNT}", f"/home/{ACCOUNT}")
        assert (scratch.source, scratch.target) == (f"/scratch/{ACCOUNT}", f"/scratch/{ACCOUNT}")
        assert person_root(home, sessions) == Path(folder)
        assert person_root(home.model_copy(update={"source": "/etc"}), sessions) is None


def test_a_number_of_the_platforms_own_is_nobodys_at_the_facility() -> None:
    first = CONFIG.sessions.unmapped_uid_first
    with pytest.raises(Refused, match="one of the platform's own"):
        docker_plan(uid=first + 5, gid=100)
    assert docker_plan(uid=5000, gid=100, gids=(first, 7)).gids == (7,)
