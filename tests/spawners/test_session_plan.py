"""Laws and cases of the plan: what is mounted, how, until when."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config import FacilityConfig
from beamhub_core.rights import GrantAnswer, PoolPath, Refused
from beamhub_core.session import Mount, SessionPlan, SessionRequest
from beamhub_core.word import digest
from beamhub_spawners.mounts import covers
from beamhub_spawners.plan import Occasion, choose_profile, limits_of
from contracts.plan_parts import CONFIG, NOW, answer_of, dataset, grant, plan
from contracts.spawner_parts import (
    ACCOUNT,
    GRANTED_PID,
    OCCASION,
    docker_plan,
    facility_fields,
)

parts = st.sampled_from(["P1", "P10", "P1-", "raw", "processed", "scan", "a b", "{x}", "p1"])
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)


@st.composite
def answers(draw: st.DrawFn) -> GrantAnswer:
    """Datasets whose own folders are granted, among any other grants and links."""
    folders = draw(st.lists(paths, min_size=1, max_size=4, unique=True))
    datasets = [dataset(path, *draw(st.lists(paths, max_size=3))) for path in folders]
    modes = st.sampled_from(["ro", "rw"])
    grants = [grant(path, draw(modes)) for path in folders]
    grants += [grant(path, draw(modes)) for path in draw(st.lists(paths, max_size=4))]
    return answer_of(datasets, grants)


def folder(mount: Mount) -> PoolPath:
    return PoolPath(pool=mount.pool, path=mount.path)


@given(answer=answers())
def test_raw_data_is_never_writable_whatever_a_grant_says(answer: GrantAnswer) -> None:
    for mount in plan(answer).mounts:
        if mount.mode == "rw" and mount.purpose != "home":
            assert PurePosixPath(mount.path).parts[1] == "processed"


@given(answer=answers())
def test_only_what_a_grant_covers_is_mounted(answer: GrantAnswer) -> None:
    for mount in plan(answer).mounts:
        if mount.purpose != "home":
            assert any(covers(one.folder, folder(mount)) for one in answer.grants)


@given(answer=answers())
def test_every_wanted_folder_is_mounted_or_named_as_ungranted(answer: GrantAnswer) -> None:
    made = plan(answer)
    for one in answer.datasets:
        for wanted in (one.folder, *one.link_closure):
            is_mounted = any(covers(folder(mount), wanted) for mount in made.mounts)
            is_named = wanted in made.ungranted_links
            assert is_mounted or is_named
            if is_named:
                assert not any(covers(given.folder, wanted) for given in answer.grants)


@given(answer=answers())
def test_no_mount_lies_in_another_of_the_same_or_a_wider_mode(answer: GrantAnswer) -> None:
    mounts = [mount for mount in plan(answer).mounts if mount.purpose != "home"]
    for i, outer in enumerate(mounts):
        for inner in mounts[i + 1 :]:
            assert not covers(folder(inner), folder(outer))  # parents come first
            if covers(folder(outer), folder(inner)):
                assert (outer.mode, inner.mode) == ("ro", "rw")


@given(answer=answers(), data=st.data())
def test_the_order_of_rights_and_datasets_does_not_matter(answer: GrantAnswer, data: st.DataObject) -> None:
    shuffled = answer.model_copy(
        update={
            "datasets": tuple(data.draw(st.permutations(answer.datasets))),
            "grants": tuple(data.draw(st.permutations(answer.grants))),
        }
    )
    assert digest(plan(shuffled)) == digest(plan(answer))


@given(answer=answers())
def test_a_plan_survives_json_with_its_digest(answer: GrantAnswer) -> None:
    made = plan(answer)
    again = SessionPlan.model_validate(json.loads(made.model_dump_json()))
    assert again == made
    assert digest(again) == digest(made)


def test_a_grant_on_p1_says_nothing_of_p10() -> None:
    answer = answer_of([dataset("P1/scan", "P10/frames")], [grant("P1")])
    made = plan(answer)
    assert [mount.path for mount in made.mounts] == ["P1/scan", ACCOUNT]
    assert made.ungranted_links == (PoolPath(pool="hall-a", path="P10/frames"),)
    assert made.datasets[0].missing == ("hall-a:P10/frames (not granted)",)


def test_the_facilitys_own_paths_are_what_the_session_sees() -> None:
    made = plan()
    assert made.datasets[0].file == "/srv/pools/hall-a/MA-5101/raw/sample-1/scan.h5"
    assert [(mount.path, mount.mode, mount.purpose) for mount in made.mounts] == [
        ("MA-5101/processed", "rw", "processed"),
        ("MA-5101/raw/detector", "ro", "raw"),
        ("MA-5101/raw/sample-1", "ro", "raw"),
        (ACCOUNT, "rw", "home"),
    ]
    assert made.template is not None
    assert made.template.parameters == {"dataset": GRANTED_PID}


def test_a_dataset_whose_folder_is_not_granted_is_refused() -> None:
    with pytest.raises(Refused, match="not open to you") as caught:
        plan(answer_of([dataset("P1/scan")], [grant("P10")]))
    assert caught.value.refusal.code == "not_a_member"


def test_a_right_that_ended_opens_nothing() -> None:
    ended = grant("P1", until=NOW - timedelta(seconds=1))
    with pytest.raises(Refused, match="not open to you"):
        plan(answer_of([dataset("P1/scan")], [ended]))


def test_the_session_ends_with_the_first_right_it_needs() -> None:
    soon = NOW + timedelta(hours=1)
    made = plan(answer_of([dataset("P1/scan")], [grant("P1", until=soon)]))
    assert made.expires_at == soon
    longer = answer_of([dataset("P1/scan")], [grant("P1", until=soon), grant("P1/scan")])
    assert plan(longer).expires_at == NOW + timedelta(hours=CONFIG.sessions.profiles[0].lifetime_h)


def test_rights_of_another_account_make_no_plan() -> None:
    with pytest.raises(Refused, match="another account"):
        plan(subject="oscar")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"profile": "large"}, "profile_not_allowed"),
        ({"profile": "huge"}, "bad_request"),
        ({"environment": "other"}, "bad_request"),
        ({"template": "other"}, "bad_request"),
    ],
)
def test_a_name_that_is_unknown_or_of_other_roles_is_refused(request_: dict[str, str], code: str) -> None:
    with pytest.raises(Refused) as caught:
        plan(request=SessionRequest.model_validate(request_))
    assert caught.value.refusal.code == code


def test_a_role_opens_its_profile() -> None:
    assert plan(request=SessionRequest(profile="large"), roles=("instrument_scientist",)).limits.cpu == 16


def test_a_template_whose_file_is_gone_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be read"):
        plan(occasion=Occasion("0" * 32, NOW, "", {}))


def test_thread_counts_follow_the_profile() -> None:
    variables = plan().environment_variables
    assert variables["OMP_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "2"
    assert not [name for name in variables if "TOKEN" in name]


def test_too_many_folders_are_refused_by_number() -> None:
    datasets = [dataset(f"P{i}/scan") for i in range(64)]
    with pytest.raises(Refused, match="more than 64"):
        plan(answer_of(datasets, [grant(f"P{i}") for i in range(64)]))


def test_the_facilitys_numbers_are_used_and_never_the_persons_wish() -> None:
    mapped = docker_plan(uid=4711, gid=4712, gids=(4713,))
    assert (mapped.uid, mapped.gid, mapped.gids) == (4711, 4712, (4713,))
    unmapped = docker_plan()
    assert unmapped.uid == unmapped.gid == OCCASION.facts.unmapped_uid
    assert unmapped.gids == ()
    assert next(one for one in unmapped.mounts if one.purpose == "home").target == f"/home/{ACCOUNT}"


def _with_lists(**lists: Any) -> FacilityConfig:
    fields = facility_fields(Path("/srv"), hub_url="http://hub", web_url="http://web")
    fields["sessions"]["environments"] = [
        {"name": "standard", "title": "Standard", "image": "local"},
        {"name": "gpu", "title": "GPU", "image": "local", "roles": lists.get("roles", ["everyone"])},
    ]
    fields["sessions"]["profiles"][0] |= {"environments": lists.get("environments"), "gpus": 2}
    return FacilityConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("lists", "wish", "answer"),
    [
        ({}, None, "standard"),
        ({}, "gpu", "gpu"),
        ({"environments": ["gpu"]}, None, "gpu"),
        ({"environments": ["gpu"]}, "standard", "profile_not_allowed"),
        ({"environments": []}, None, "profile_not_allowed"),
        ({"environments": []}, "standard", "profile_not_allowed"),
        ({"roles": []}, "gpu", "profile_not_allowed"),
        ({"roles": ["admin"]}, "gpu", "profile_not_allowed"),
        ({"roles": ["admin"], "environments": ["gpu"]}, None, "profile_not_allowed"),
        ({}, "other", "bad_request"),
    ],
)
def test_an_environment_is_open_where_profile_and_role_allow_it_and_an_empty_list_denies(
    lists: dict[str, Any], wish: str | None, answer: str
) -> None:
    request = SessionRequest(profile="small", environment=wish)
    try:
        found = choose_profile(request, _with_lists(**lists), roles=()).environment.name
    except Refused as refused:
        found = refused.refusal.code
    assert found == answer


def test_a_profile_gives_its_gpus_to_the_plan() -> None:
    assert limits_of(_with_lists().sessions.profiles[0]).gpus == 2
