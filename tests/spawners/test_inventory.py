"""Places as their hosts say they are, and what starts ask of the world."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.pool_health import PoolState
from beamhub_core.rights import Refused
from beamhub_core.session import Limits, Place
from beamhub_spawners.agent_inventory import HostInventory
from beamhub_spawners.facts_reader import read_start_facts
from beamhub_spawners.home_usage import Usage, usage_note
from beamhub_spawners.inventory import NO_RECURSION, HostStorage, place_of, read_places
from beamhub_spawners.mode_needed import choose_in_mode, pools_to_write
from beamhub_spawners.placement import Wanted, choose
from contracts.spawner_parts import PLACE, facility_fields, granted_answer, make_facility, principal
from fuse_server import stoppable_storage, why_no_fuse

needs_fuse = pytest.mark.skipif(why_no_fuse() is not None, reason=why_no_fuse() or "")


def facility(folder: Path, **pool: Any) -> FacilityConfig:
    make_facility(folder)
    fields = facility_fields(folder, hub_url="http://hub", web_url="http://web")
    fields["pools"][0].update(pool)
    return FacilityConfig.model_validate(fields)


def state(name: str = "hall-a", **changes: Any) -> PoolState:
    fields = {"pool": name, "is_readable": True, "is_writable": True, "checked_at": utc_now()}
    return PoolState.model_validate({**fields, **changes})


def placed(config: FacilityConfig, said: HostStorage | str) -> Place:
    return place_of(config.sessions.places[0], config.pools, said, [Limits(cpu=1, memory_gib=2)])


def test_a_place_has_the_pools_that_answer_and_a_reason_for_the_others(tmp_path: Path, run: Any) -> None:
    config = facility(tmp_path)
    (tmp_path / "pools/hall-b").rename(tmp_path / "gone")
    hall_a, hall_b = run(read_places(config, ()))
    assert (hall_a.healthy_pools, hall_a.pool_faults) == (("hall-a",), {})
    assert (hall_b.healthy_pools, hall_b.pool_faults) == ((), {"hall-b": "no such folder"})


def test_a_host_that_says_nothing_offers_no_pool(tmp_path: Path, run: Any) -> None:
    config = facility(tmp_path)

    async def silent(place: PlaceConfig) -> HostStorage | None:
        raise Unavailable(place.name, "no answer in time")

    for place in run(read_places(config, (), silent)):
        assert place.healthy_pools == ()
        assert place.pool_faults == {place.pools[0]: "its host does not answer (no answer in time)"}
    assert placed(config, HostStorage(pools={})).pool_faults == {"hall-a": "its host says nothing of it"}


def test_a_pool_that_cannot_be_written_is_still_read(tmp_path: Path) -> None:
    config = facility(tmp_path)
    said = HostStorage(pools={"hall-a": state(is_writable=False, reason="read-only")}, images=("image",))
    place = placed(config, said)
    assert (place.healthy_pools, place.read_only_pools) == (("hall-a",), ("hall-a",))
    assert (place.pool_faults, place.images) == ({"hall-a": "read-only"}, ("image",))
    full = placed(config, HostStorage(pools={"hall-a": state(is_full=True, reason="full")}))
    assert (full.healthy_pools, full.read_only_pools) == (("hall-a",), ())  # so that people can delete


def test_recursion_that_an_engine_cannot_give_is_refused_by_name(tmp_path: Path) -> None:
    config = facility(tmp_path, recursive_read_only=True)
    for can in (True, False):
        place = placed(config, HostStorage(pools={"hall-a": state()}, recursive_read_only=can))
        assert (place.healthy_pools, place.pool_faults) == (
            (("hall-a",), {}) if can else ((), {"hall-a": NO_RECURSION})
        )


DOCKER = PLACE.model_copy(update={"backend": "docker"})


def test_an_account_without_a_number_is_given_one_and_keeps_it(tmp_path: Path, run: Any) -> None:
    config = facility(tmp_path)
    answers = [
        run(read_start_facts(granted_answer(), config, principal(who), DOCKER, utc_now))
        for who in ("ines", "oscar", "ines")
    ]
    first, other, again = (facts.unmapped_uid for facts in answers)
    assert first == again != other
    mapped = principal(uid=5000, gid=5000)
    assert run(read_start_facts(granted_answer(), config, mapped, DOCKER, utc_now)).unmapped_uid is None
    assert run(read_start_facts(granted_answer(), config, principal(), PLACE, utc_now)).unmapped_uid is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to groups")
def test_the_groups_of_wanted_folders_are_asked_where_16_arrive(tmp_path: Path, run: Any) -> None:
    person = principal(uid=5000, gid=5000, gids=tuple(range(6000, 6020)))
    for mode, needed in (("auth_sys", (6019,)), ("server", ())):
        config = facility(tmp_path, group_mode=mode)
        raw = tmp_path / "pools/hall-a/MA-5101/raw"
        os.chown(raw, 0, 6019)
        raw.chmod(0o750)
        facts = run(read_start_facts(granted_answer(), config, person, DOCKER, utc_now))
        assert facts.needed_gids == needed


@needs_fuse
def test_homes_that_hang_refuse_a_start_in_time(tmp_path: Path, run: Any) -> None:
    config = facility(tmp_path)
    (tmp_path / "homes").mkdir()
    with stoppable_storage(tmp_path / "homes") as storage:
        storage.stop()
        began = time.monotonic()
        with pytest.raises(Refused, match="The storage of the homes does not answer since") as caught:
            run(read_start_facts(granted_answer(), config, principal(), PLACE, utc_now))
        assert time.monotonic() - began < 8
        assert caught.value.refusal.code == "unavailable"
        storage.go_on()


@pytest.mark.parametrize(
    ("gib", "is_complete", "words"),
    [(1.0, True, None), (1.85, True, "It is nearly full"), (2.5, False, "at least 2.5 of 2 GiB. Delete")],
)
def test_a_measured_home_is_told_when_room_is_short(gib: float, is_complete: bool, words: str | None) -> None:
    note = usage_note(Usage(int(gib * 2**30), 10, is_complete), 2.0)
    assert (note is None) if words is None else (note is not None and words in note)


def test_a_measured_limit_is_told_at_the_start(tmp_path: Path, run: Any) -> None:
    config = facility(tmp_path)
    sessions = config.sessions.model_copy(
        update={"homes": config.sessions.homes.model_copy(update={"quota_gib": 0.0001})}
    )
    config = config.model_copy(update={"sessions": sessions})
    home = tmp_path / "homes" / principal().account
    home.mkdir(parents=True)
    (home / "file").write_bytes(b"x" * 200_000)

    async def until_told() -> str:
        for _ in range(20):
            facts = await read_start_facts(granted_answer(), config, principal(), PLACE, utc_now)
            if facts.notes:
                return facts.notes[0]
        return ""

    assert "of 0.0001 GiB. Delete or move" in run(until_told())


def place(name: str, **changes: Any) -> Place:
    return PLACE.model_copy(update={"name": name, "backend": "docker", **changes})


def test_a_place_where_results_can_be_written_is_preferred_and_else_any_will_do() -> None:
    wanted, writes = Wanted({"hall-a": 10}, "image"), pools_to_write(granted_answer())
    assert writes == {"hall-a"}
    broken = place("a", read_only_pools=("hall-a",), images=("image",))
    chosen, record = choose_in_mode(wanted, [broken, place("b", running=3)], writes)
    assert chosen.name == "b"
    assert {one.place: one.reasons for one in record.verdicts}["a"] == (
        "storage pool hall-a there: read-only",
    )
    for others in ([], [place("b", running=4)], [place("b", healthy_pools=())]):
        assert choose_in_mode(wanted, [broken, *others], writes)[0].name == "a"
    assert choose_in_mode(wanted, [broken, place("b", running=3)], frozenset())[0].name == "a"


def test_a_place_says_which_image_its_host_cannot_have_and_why() -> None:
    said = HostInventory.model_validate(
        {
            "place": "hall-a",
            "engine_version": "25.0",
            "recursive_read_only": True,
            "pools": {},
            "images": {
                "good@sha256:1": {"state": "present"},
                "slow@sha256:2": {"state": "pulling", "detail": "1 of 3 layers"},
                "bad@sha256:3": {"state": "failed", "detail": "manifest\nunknown " + "x" * 500},
                "gone@sha256:4": {"state": "missing", "detail": "is not on this host"},
                "odd@sha256:5": {"state": "failed"},
            },
            "n_sessions": 0,
            "memory_free_bytes": None,
            "gpus": [],
            "gpus_free": [],
        }
    ).storage()
    assert said.images == ("good@sha256:1",)
    assert set(said.image_faults) == {"bad@sha256:3", "gone@sha256:4", "odd@sha256:5"}
    assert said.image_faults["bad@sha256:3"].startswith("could not be pulled: manifest unknown x")
    assert all(len(fault) < 300 for fault in said.image_faults.values())
    config = PlaceConfig.model_validate({"name": "hall-a", "backend": "docker", "pools": ["p"]})
    place = place_of(config, (), said.model_copy(update={"pools": {}}), ())
    assert place.image_faults == said.image_faults
    with pytest.raises(Refused, match="image is not to be had there: could not be pulled: manifest unknown"):
        choose(Wanted({}, "bad@sha256:3"), [place])
    assert choose(Wanted({}, "slow@sha256:2"), [place])[0].name == "hall-a"
