"""Sessions as the hub keeps them in web: plans, states, tokens, and rights that are looked at again."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from beamhub_catalogue.models import AuditRow
from beamhub_catalogue.sessions import FINAL_STATES
from beamhub_core.session import LIVE_STATES, SessionPlan
from beamhub_core.word import digest
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW, SESSION_TOKEN, Stocked, mount_of, plan_with
from catalogue.catalogue_parts import COLIN, INES, MEMBERS, NOW, OSCAR, SAM, TOKENS, person, session_plan

FOLDER = "MA-2/raw/scan1"
STATES = (*LIVE_STATES, *FINAL_STATES)


def verdicts(stocked: Stocked) -> list[tuple[str, str, str]]:
    answer = stocked.api.ask("POST", "/recheck")
    assert answer.status_code == 200
    return [(v["account"], v["action"], v["reason"]) for v in answer.json()]


def reading(stocked: Stocked, **changes: Any) -> SessionPlan:
    """A running session of Ines on the embargoed dataset, with its processed folder."""
    plan = plan_with(
        stocked.facility, INES, mount_of(stocked.facility, FOLDER, pid=RAW), processed="MA-2", **changes
    )
    return stocked.api.running(plan)


# Plans


def test_a_plan_is_stored_once_and_given_back_as_it_was(stocked: Stocked) -> None:
    plan = session_plan(stocked.facility, INES)
    assert [stocked.api.store(plan).status_code for _ in range(2)] == [201, 200]
    stored = stocked.api.ask("GET", f"/sessions/{plan.id}").json()
    assert SessionPlan.model_validate(stored["plan"]) == plan
    assert stored["record"]["plan_hash"] == digest(plan)
    assert (stored["record"]["state"], stored["record"]["token_digest"]) == ("planned", None)
    with stocked.service.database.reading() as session:
        assert len(session.scalars(select(AuditRow).where(AuditRow.kind == "plan")).all()) == 1


def test_another_plan_under_the_same_id_is_a_conflict_and_changes_nothing(stocked: Stocked) -> None:
    plan = session_plan(stocked.facility, INES)
    stocked.api.store(plan)
    answer = stocked.api.store(session_plan(stocked.facility, OSCAR))
    assert (answer.status_code, set(answer.json())) == (409, {"detail"})
    assert stocked.api.record(plan)["account"] == INES.account


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        (None, {"plan_hash": "0" * 64}),
        (None, {"plan_hash": "short"}),
        ("f" * 32, {}),
        (None, {"surprise": 1}),
        ("not-an-id", {}),
    ],
)
def test_a_plan_that_is_not_what_its_hash_or_address_says_is_refused(
    stocked: Stocked, path: str | None, changes: dict[str, Any]
) -> None:
    plan = session_plan(stocked.facility, INES)
    body = {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)} | changes
    assert stocked.api.ask("PUT", f"/sessions/{path or plan.id}", body).status_code == 422
    assert stocked.api.ask("GET", f"/sessions/{plan.id}").status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": "2026-06-01T12:00:00"},
        {"created_at": "2026-06-01T12:00:00"},
        {"expires_at": "9999-12-31T23:59:59-12:00"},
    ],
)
def test_a_plan_whose_times_have_no_zone_would_break_every_recheck_and_is_refused(
    stocked: Stocked, changes: dict[str, Any]
) -> None:
    plan = session_plan(stocked.facility, INES, **changes)
    assert stocked.api.store(plan).status_code == 422
    assert verdicts(stocked) == []


def test_a_plan_with_a_number_that_is_none_is_refused(stocked: Stocked) -> None:
    plan = session_plan(stocked.facility, INES)
    words = plan.model_dump_json().replace('"limits":{"cpu":1.0', '"limits":{"cpu":1e999')
    content = f'{{"plan": {words}, "plan_hash": "{"0" * 64}"}}'
    assert "1e999" in content
    assert stocked.api.ask("PUT", f"/sessions/{plan.id}", content=content.encode()).status_code == 422


# States and tokens


def test_states_go_forward_and_never_back(stocked: Stocked) -> None:
    plan = session_plan(stocked.facility, INES)
    stocked.api.store(plan)
    for state, then in (
        ("starting", "starting"),
        ("planned", "starting"),
        ("running", "running"),
        ("starting", "running"),
        ("unknown", "unknown"),
        ("running", "running"),
        ("stopping", "stopping"),
        ("running", "stopping"),
        ("ended", "ended"),
    ):
        assert stocked.api.update(plan, state=state).status_code == 204
        assert (state, stocked.api.record(plan)["state"]) == (state, then)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(st.sampled_from(STATES), max_size=8), final=st.sampled_from(FINAL_STATES))
def test_nothing_follows_a_final_state(stocked: Stocked, states: list[str], final: str) -> None:
    number = test_nothing_follows_a_final_state.__dict__.setdefault("numbers", iter(range(1, 10_000)))
    plan = stocked.api.running(session_plan(stocked.facility, INES, number=next(number)))
    stocked.api.update(plan, state=final, reason="over")
    before = stocked.api.record(plan)
    for state in states:
        stocked.api.update(plan, state=state, token_digest="f" * 64, url="/x", reason="again")
    assert stocked.api.record(plan) == before
    assert (before["state"], before["token_digest"], before["reason"]) == (final, None, "over")


def test_absent_fields_stay_as_they_are(stocked: Stocked) -> None:
    plan = stocked.api.running(session_plan(stocked.facility, INES))
    before = stocked.api.record(plan)
    stocked.api.update(plan, backend_id="pid:1", url="/user/x")
    stocked.api.update(plan, reason="busy")
    after = stocked.api.record(plan)
    assert (after["backend_id"], after["url"], after["reason"]) == ("pid:1", "/user/x", "busy")
    assert (after["state"], after["token_digest"]) == ("running", before["token_digest"])


def test_an_update_of_no_session_or_of_no_field_is_told_so(stocked: Stocked) -> None:
    plan = session_plan(stocked.facility, INES)
    assert stocked.api.update(plan, state="running").status_code == 404
    stocked.api.store(plan)
    assert stocked.api.update(plan, state="sleeping").status_code == 422
    assert stocked.api.update(plan, account=OSCAR.account).status_code == 422


def test_the_live_list_holds_what_has_not_ended(stocked: Stocked) -> None:
    plans = [session_plan(stocked.facility, INES, number=n) for n in (1, 2, 3)]
    for plan in plans:
        stocked.api.running(plan, f"{SESSION_TOKEN}-{plan.id}")
    stocked.api.update(plans[0], state="ended")
    stocked.api.update(plans[1], state="unknown")
    live = stocked.api.ask("GET", "/sessions?live=true").json()
    assert [(s["plan"]["id"], s["record"]["state"]) for s in live] == [
        (plans[1].id, "unknown"),
        (plans[2].id, "running"),
    ]
    assert stocked.api.ask("GET", "/sessions").status_code == 422


# Rights while a session runs


def test_a_session_whose_rights_hold_goes_on(stocked: Stocked) -> None:
    reading(stocked)
    assert verdicts(stocked) == [(INES.account, "none", "All rights hold.")]


def test_a_session_that_ended_has_no_verdict(stocked: Stocked) -> None:
    stocked.api.update(reading(stocked), state="ended")
    assert verdicts(stocked) == []


def test_a_membership_that_the_user_office_removed_stops_the_session(stocked: Stocked) -> None:
    plan = reading(stocked)
    stocked.facility.write_office(members=MEMBERS[1:])
    [(_, action, reason)] = verdicts(stocked)
    assert action == "stop"
    assert "MA-2" in reason
    with stocked.service.database.reading() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.kind == "recheck")).all()
        assert [row.subject for row in rows] == [plan.id]


def test_only_the_right_to_write_may_end(stocked: Stocked) -> None:
    reading(stocked)
    stocked.facility.write_office(members=(MEMBERS[0].replace(",pi,", ",local_contact,"), *MEMBERS[1:]))
    assert [v[1] for v in verdicts(stocked)] == ["stop"]


def test_an_ended_account_stops_its_sessions_and_nobody_elses(stocked: Stocked) -> None:
    reading(stocked)
    other = plan_with(stocked.facility, SAM, mount_of(stocked.facility, FOLDER, pid=RAW), number=2)
    stocked.api.running(other, SESSION_TOKEN + "2")
    stocked.api.ask("DELETE", f"/principals/{INES.account}")
    assert {v[0]: v[1] for v in verdicts(stocked)} == {INES.account: "stop", SAM.account: "none"}


def test_a_session_of_nobody_is_stopped(stocked: Stocked) -> None:
    stocked.api.running(session_plan(stocked.facility, person("ghost"), processed=None))
    assert [v[1] for v in verdicts(stocked)] == ["stop"]


def test_a_session_is_warned_an_hour_before_its_lifetime_ends_and_then_stopped(stocked: Stocked) -> None:
    plan = reading(stocked)
    for left, action in (("1:00:01", "none"), ("1:00:00", "warn"), ("0:00:01", "warn"), ("0:00:00", "stop")):
        hours, minutes, seconds = map(int, left.split(":"))
        stocked.facility.wall_clock.now = plan.expires_at - timedelta(
            hours=hours, minutes=minutes, seconds=seconds
        )
        assert (left, verdicts(stocked)[0][1]) == (left, action)


def test_the_policys_clock_ends_no_lifetime(stocked: Stocked) -> None:
    reading(stocked)
    stocked.facility.clock.now = NOW + timedelta(days=1_500)
    assert [v[1] for v in verdicts(stocked)] == ["none"]


def test_a_membership_that_ends_with_time_is_warned_of_and_then_stops(stocked: Stocked) -> None:
    stocked.facility.write_office(members=(MEMBERS[0].removesuffix(",") + ",2026-06-01",))
    reading(stocked)
    end = NOW.replace(hour=22)  # midnight in Paris
    for before, action in (
        (timedelta(hours=25), "none"),
        (timedelta(hours=24), "notify"),
        (timedelta(hours=1), "warn"),
        (timedelta(), "stop"),
    ):
        stocked.facility.clock.now = end - before
        assert (before, verdicts(stocked)[0][1]) == (before, action)


def test_entitlements_that_nobody_confirmed_for_long_stop_a_session(stocked: Stocked) -> None:
    plan = plan_with(
        stocked.facility,
        COLIN,
        mount_of(stocked.facility, FOLDER, pid=RAW),
        expires_at=NOW + timedelta(days=30),
    )
    stocked.api.running(plan)
    assert [v[1] for v in verdicts(stocked)] == ["none"]
    grace = timedelta(hours=stocked.service.config.login.grace_h)
    stocked.facility.wall_clock.now = NOW + grace
    assert [v[1] for v in verdicts(stocked)] == ["none"]
    stocked.facility.wall_clock.now = NOW + grace + timedelta(seconds=1)
    assert [v[1] for v in verdicts(stocked)] == ["stop"]


@pytest.mark.parametrize(
    ("folder", "pid", "action"),
    [
        ("OP-1/raw/scan1", OPEN, "none"),
        ("OP-1/raw/scan1", None, "none"),
        ("OP-1", OPEN, "stop"),  # a whole proposal is more than its raw data
        ("OP-1/processed", None, "stop"),
        (FOLDER, OPEN, "stop"),  # the path says whose data it is, not the pid beside it
        ("OP-1/raw/scan1", HIDDEN, "none"),
        ("OP-10/raw", OPEN, "stop"),
        ("TO-3/raw/scan1", HIDDEN, "stop"),
    ],
)
def test_a_mount_is_judged_by_its_path(stocked: Stocked, folder: str, pid: str | None, action: str) -> None:
    stocked.api.running(plan_with(stocked.facility, OSCAR, mount_of(stocked.facility, folder, pid=pid)))
    assert [v[1] for v in verdicts(stocked)] == [action]


# Bodies that somebody made up

words = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from(
    (
        ("PUT", "principals"),
        ("POST", "grants"),
        ("PUT", "plan"),
        ("POST", "update"),
        ("POST", "products"),
        ("POST", "harvest"),
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=paths, data=st.data())
def test_no_body_makes_the_service_fail(
    stocked: Stocked, target: tuple[str, str], data: st.DataObject
) -> None:
    plan = session_plan(stocked.facility, INES)
    stocked.api.store(plan)
    stocked.api.update(plan, token_digest=hashlib.sha256(SESSION_TOKEN.encode()).hexdigest(), state="running")
    whole: dict[str, tuple[str, dict[str, Any]]] = {
        "principals": (f"/principals/{INES.account}", INES.model_dump(mode="json")),
        "grants": ("/grants", {"account": INES.account, "datasets": [RAW]}),
        "plan": (f"/sessions/{plan.id}", {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)}),
        "update": (f"/sessions/{plan.id}/update", {"reason": "x", "url": "/x"}),
        "products": ("/products", {"path": str(stocked.facility.pool / "MA-2/processed/x.h5")}),
        "harvest": ("/harvest", {"pool": "pool", "path": "nowhere"}),
    }
    path, body = whole[target[1]]
    inner = body["plan"] if target[1] == "plan" and data.draw(st.booleans()) else body
    for _ in range(data.draw(st.integers(1, 3))):
        inner[data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=8))] = data.draw(words)
    content = json.dumps(data.draw(st.sampled_from((body, [body], inner)) | words)).encode()
    token = SESSION_TOKEN if target[1] == "products" else TOKENS["hub"]
    headers = {"Content-Type": "application/json"}
    answer = stocked.api.ask(target[0], path, None, token, content=content, headers=headers)
    assert answer.status_code < 500, content
    answer.text.encode()
