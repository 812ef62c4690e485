"""Acts upon proposals over the internal API: who may, what they change at once, and what survives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from beamhub_catalogue.act_making import MAX_ACTS
from beamhub_catalogue.models import ActRow, AuditRow
from catalogue.catalogue_acts_parts import (
    EXTENDABLE,
    OPENS,
    SUPPORT,
    act,
    open_acting,
    reads,
    revoke,
    tell,
    view,
)
from catalogue.catalogue_api_parts import HIDDEN, RAW, Api, Stocked, open_api
from catalogue.catalogue_parts import (
    CLASSES,
    COLIN,
    INES,
    MEMBERS,
    NOW,
    OSCAR,
    PROPOSALS,
    SAM,
    TOKENS,
    person,
)

MFA = "https://refeds.org/profile/mfa"


@pytest.fixture
def stocked(prepared: Path, tmp_path: Path) -> Iterator[Stocked]:
    with open_acting(prepared, tmp_path / "stocked") as made:
        yield made


@pytest.fixture
def api(stocked: Stocked) -> Api:
    return stocked.api


def test_telling_an_act_twice_is_telling_it_once(stocked: Stocked) -> None:
    extension = act("extension", months=12)
    assert [tell(stocked.api, None, extension)[0] for _ in range(3)] == [201, 200, 200]
    assert view(stocked, None).embargo.opens_at == OPENS.replace(year=2029)
    with stocked.service.database.reading() as session:
        kinds = session.scalars(select(AuditRow.kind).where(AuditRow.subject == "MA-2")).all()
    assert kinds == ["act"]


def test_another_act_under_the_same_id_is_a_conflict(api: Api) -> None:
    assert tell(api, None, act("extension", months=12))[0] == 201
    for other in (act("extension", months=6), act("withdrawal"), act("extension", "TO-3", months=12)):
        assert tell(api, None, other)[0] in (403, 409)
    assert tell(api, None, act("extension", months=12, reason="another"))[0] == 409
    assert tell(api, None, act("extension", months=12))[0] == 200


def test_the_id_of_the_address_is_that_of_the_act(api: Api) -> None:
    assert api.ask("PUT", f"/acts/{'f' * 32}", {"act": act("withdrawal")}).status_code == 422


def test_revoking_an_extension_restores_the_day(stocked: Stocked) -> None:
    tell(stocked.api, None, act("extension", months=12))
    assert [revoke(stocked.api), revoke(stocked.api), revoke(stocked.api, 9)] == [204, 204, 404]
    assert view(stocked, None).embargo.opens_at == OPENS
    listed = stocked.api.ask("GET", "/proposals/MA-2/acts").json()
    assert [(each["made_by"], each["revoked_by"]) for each in listed] == [("operator", "operator")]
    with stocked.service.database.reading() as session:
        n_rows = session.scalar(select(func.count()).where(AuditRow.kind == "act_revoked"))
    assert n_rows == 1


def test_a_revoked_act_told_again_stays_revoked(stocked: Stocked) -> None:
    tell(stocked.api, None, act("extension", months=12))
    revoke(stocked.api)
    assert tell(stocked.api, None, act("extension", months=12))[0] == 200
    assert view(stocked, None).embargo.opens_at == OPENS


def test_the_policys_limits_are_named(api: Api) -> None:
    assert tell(api, None, act("extension", months=13)) == (
        403,
        "The policy allows 12 months for this extension, not 13.",
    )
    for number, months in ((1, 12), (2, 6)):
        assert tell(api, None, act("extension", number=number, months=months))[0] == 201
    assert tell(api, None, act("extension", number=3, months=1)) == (
        403,
        "The policy allows 2 extension(s), and 2 stand already.",
    )


def test_the_principal_investigator_releases_early(stocked: Stocked) -> None:
    assert not reads(stocked, OSCAR)
    assert tell(stocked.api, INES, act("early_release", day="2026-06-02"))[0] == 201
    assert not reads(stocked, OSCAR)
    stocked.facility.clock.now = datetime(2026, 6, 1, 22, tzinfo=UTC)  # midnight in Paris
    assert reads(stocked, OSCAR)
    assert reads(stocked, None)


def test_an_extension_of_open_data_is_refused(stocked: Stocked) -> None:
    assert tell(stocked.api, None, act("extension", "OP-1", months=1)) == (
        403,
        "The data of OP-1 is open since 2021-03-05.",
    )
    stocked.facility.clock.now = OPENS - timedelta(seconds=1)
    assert tell(stocked.api, None, act("extension", months=1))[0] == 201
    revoke(stocked.api)
    stocked.facility.clock.now = OPENS
    status, reason = tell(stocked.api, None, act("extension", number=2, months=1))
    assert (status, reason) == (403, "The data of MA-2 is open since 2028-10-10.")
    assert reads(stocked, None)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (act("early_release", day="2026-05-31"), "The day 2026-05-31 is past."),
        (act("early_release", day="2028-10-10"), "opens on 2028-10-10 already"),
        (act("support_consent", until="2026-06-01T12:00:00Z"), "would have ended already"),
    ],
)
def test_an_act_that_would_come_too_late_is_refused(api: Api, told: dict[str, Any], reason: str) -> None:
    status, said = tell(api, INES, told)
    assert status == 403
    assert reason in said


def test_members_may_consent_to_support_and_nothing_else(stocked: Stocked) -> None:
    api = stocked.api
    for told in (act("early_release", day="2026-06-01"), act("extension", months=1), act("withdrawal")):
        status, reason = tell(api, COLIN, told)
        assert status == 403
        assert reason.startswith("Only ")
    for told in (act("extension", months=1), act("withdrawal")):
        assert tell(api, INES, told) == (
            403,
            "Only the facility's operators do this. Ask the user office.",
        )
    assert not reads(stocked, SUPPORT)
    assert tell(api, COLIN, act("support_consent", until="2026-06-08T12:00:00+02:00"))[0] == 201
    assert reads(stocked, SUPPORT)
    assert tell(api, COLIN, act("support_consent", until="2026-06-08T10:00:00Z"))[0] == 200  # one instant
    stocked.facility.clock.now = datetime(2026, 6, 8, 10, tzinfo=UTC)
    assert not reads(stocked, SUPPORT)


def test_the_team_takes_its_consent_back(stocked: Stocked) -> None:
    tell(stocked.api, COLIN, act("support_consent", until="2026-06-08T12:00:00Z"))
    assert [revoke(stocked.api, 1, who) for who in (OSCAR, SAM, SUPPORT)] == [403] * 3
    assert reads(stocked, SUPPORT)
    assert revoke(stocked.api, 1, INES) == 204
    assert not reads(stocked, SUPPORT)


def test_nobody_takes_back_what_is_for_operators(stocked: Stocked) -> None:
    api = stocked.api
    tell(api, None, act("withdrawal"))
    tell(api, None, act("early_release", "TO-3", 2, day="2026-07-01"))
    assert [revoke(api, 1, who) for who in (INES, COLIN, OSCAR)] == [403] * 3
    assert revoke(api, 2, INES) == 403  # a member of TO-3
    assert not reads(stocked, INES)
    assert revoke(api, 1) == 204
    assert reads(stocked, INES)


def test_an_early_release_is_taken_back_before_its_day_but_not_after(stocked: Stocked) -> None:
    api = stocked.api
    tell(api, INES, act("early_release", number=1, day="2026-07-01"))
    assert revoke(api, 1, INES) == 204
    assert view(stocked, None).embargo.opens_at == OPENS
    tell(api, INES, act("early_release", number=2, day="2026-07-01"))
    stocked.facility.clock.now = datetime(2026, 7, 1, tzinfo=UTC)
    assert revoke(api, 2, INES) == 403
    assert reads(stocked, OSCAR)
    assert revoke(api, 2) == 204
    assert not reads(stocked, OSCAR)


def test_an_outsider_is_told_the_same_of_a_hidden_and_an_unknown_proposal(api: Api) -> None:
    told = []
    for proposal in ("TO-3", "TO-4"):
        body = {"act": act("support_consent", proposal, until="2026-06-08T12:00:00Z")}
        answer = api.ask("PUT", f"/acts/{1:032x}", body | {"account": OSCAR.account})
        refusal = answer.json()["refusal"]
        assert refusal.pop("reference") and refusal.pop("subject") == proposal
        told.append((answer.status_code, refusal))
    assert told[0] == told[1]
    assert told[0][0] == 404


def test_an_outsider_is_told_the_same_of_a_hidden_and_an_unknown_act(api: Api) -> None:
    tell(api, COLIN, act("support_consent", "TO-3", until="2026-06-08T12:00:00Z"))
    answers = [api.ask("DELETE", f"/acts/{n:032x}?account={OSCAR.account}") for n in (1, 2)]
    assert [a.status_code for a in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()


def test_an_account_whose_rights_ended_makes_and_revokes_nothing(stocked: Stocked) -> None:
    api = stocked.api
    consent = act("support_consent", until="2026-06-08T12:00:00Z")
    tell(api, INES, consent)
    assert api.ask("DELETE", f"/principals/{INES.account}").status_code == 204
    status, reason = tell(api, INES, act("early_release", number=2, day="2026-06-01"))
    assert status == 403
    assert "not logged in" in reason
    assert revoke(api, 1, INES) == 403
    assert tell(api, person("ghost"), consent | {"id": "f" * 32})[0] == 403


def test_a_member_whose_place_ended_acts_no_more(stocked: Stocked) -> None:
    stocked.facility.write_office(members=(MEMBERS[0] + "2026-05-31", *MEMBERS[1:]))
    status, reason = tell(stocked.api, INES, act("early_release", day="2026-06-02"))
    assert (status, reason) == (403, "Only pi of MA-2 may do this.")


def test_an_investigator_without_the_second_factor_publishes_nothing(stocked: Stocked) -> None:
    strict = EXTENDABLE["standard"] | {"required_acr": [MFA]}
    stocked.facility.write_policy(EXTENDABLE | {"standard": strict}, "t2")
    status, reason = tell(stocked.api, INES, act("early_release", day="2026-06-01"))
    assert status == 403
    assert "a login with a second factor" in reason
    stocked.api.push(INES.model_copy(update={"acr": MFA}))
    assert tell(stocked.api, INES, act("early_release", day="2026-06-01"))[0] == 201


def test_acts_survive_a_new_reading_of_the_user_office_and_a_restart(stocked: Stocked) -> None:
    api, facility = stocked.api, stocked.facility
    tell(api, None, act("extension", number=1, months=12))
    tell(api, None, act("withdrawal", number=2, pid=RAW))
    tell(api, None, act("withdrawal", "TO-3", 3))
    for proposals in (PROPOSALS[:1], PROPOSALS):  # gone for a while, then back
        facility.write_office(proposals)
        stocked.service.rules.refresh()
    facility.write_office((PROPOSALS[0], PROPOSALS[1].replace("2025-10-09", "2025-10-10"), PROPOSALS[2]))
    stocked.service.stop()
    again = facility.service()
    try:
        with open_api(again) as later:
            after = Stocked(facility, again, later)
            assert view(after, None).embargo.opens_at == OPENS.replace(year=2029) + timedelta(days=1)
            assert [view(after, INES, pid).embargo.state for pid in (RAW, HIDDEN)] == ["withdrawn"] * 2
            assert revoke(later, 2) == 204
            assert reads(after, INES)
    finally:
        again.stop()


def test_a_policy_with_shorter_steps_counts_what_it_allows_of_extensions(stocked: Stocked) -> None:
    tell(stocked.api, None, act("extension", number=1, months=12))
    tell(stocked.api, None, act("extension", number=2, months=6))
    stocked.facility.write_policy(
        EXTENDABLE | {"standard": CLASSES["standard"] | {"extension_months": [3]}}, "t2"
    )
    assert view(stocked, None).embargo.opens_at == datetime(2029, 1, 9, 23, tzinfo=UTC)


def test_acts_upon_one_proposal_are_bounded(stocked: Stocked) -> None:
    with stocked.service.database.writing() as session:
        words = {"proposal": "MA-2", "kind": "support_consent", "until": NOW, "reason": "r"}
        session.add_all(
            ActRow(id=f"{i:032x}", made_by=COLIN.account, made_at=NOW, **words)
            for i in range(10, MAX_ACTS + 10)
        )
    status, reason = tell(stocked.api, COLIN, act("support_consent", until="2027-01-01T00:00:00Z"))
    assert status == 403
    assert str(MAX_ACTS) in reason


@pytest.mark.parametrize(
    "said",
    [
        {"proposal": "MA-2\0"},
        {"proposal": "\ud800"},
        {"proposal": ""},
        {"reason": ""},
        {"reason": "\x1b[31m"},
        {"months": 0},
        {"months": 121},
        {"months": None},
        {"months": 12, "day": "2027-01-01"},
        {"kind": "support_consent", "months": None, "until": "9999-12-31T23:59:59-12:00"},
        {"kind": "support_consent", "months": None, "until": "2027-01-01T00:00:00"},
        {"kind": "early_release", "months": None, "day": "2027-02-29"},
        {"pid": RAW},
        {"made_by": "somebody"},
    ],
)
def test_an_act_that_is_none_is_refused_and_kept_nowhere(stocked: Stocked, said: dict[str, Any]) -> None:
    words = act("extension", months=12) | said
    answer = stocked.api.ask(
        "PUT",
        f"/acts/{1:032x}",
        content=json.dumps({"act": words}).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    with stocked.service.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ActRow)) == 0


def test_an_address_that_is_none_is_refused(api: Api) -> None:
    assert api.ask("DELETE", f"/acts/{'0' * 31}").status_code == 422
    assert api.ask("DELETE", f"/acts/{'0' * 32}?account=root").status_code == 422
    assert api.ask("GET", "/proposals/MA-2%00/acts").status_code == 404
    assert api.ask("GET", "/proposals/MA-20/acts").status_code == 404


def test_a_client_without_the_scope_makes_and_sees_no_acts(api: Api) -> None:
    for method, path, body in (
        ("PUT", f"/acts/{1:032x}", {"act": act("withdrawal")}),
        ("DELETE", f"/acts/{1:032x}", None),
        ("GET", "/proposals/MA-2/acts", None),
    ):
        assert api.ask(method, path, body, token=TOKENS["reader"]).status_code == 403
