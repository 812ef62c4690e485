"""`beamhub policy check` and `beamhub policy explain`: what is decided for whom, when and why."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from beamhub_catalogue.models import MemberRow, SourceRow
from beamhub_catalogue.people import remove_principal
from beamhub_core.identity import Principal
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW
from catalogue.catalogue_parts import CLASSES, COLIN, ISSUER, MEMBERS, NOW, OSCAR, person
from catalogue.catalogue_shell_parts import AFTER, Shell, explain


def test_a_policy_is_checked_and_all_its_problems_are_told(shell: Shell) -> None:
    file = shell.facility.folder / "policy.yaml"
    code, facts = shell.json("policy", "check", str(file), config=False)
    assert (code, facts["ok"], facts["version"], facts["timezone"]) == (0, True, "t1", "Europe/Paris")
    assert facts["label"].startswith("t1@")
    assert {name: rules["embargo_months"] for name, rules in facts["classes"].items()} == {
        name: rules["embargo_months"] for name, rules in CLASSES.items()
    }
    assert facts["rules"] == []
    code, out, _ = shell.run("policy", "check", str(file), config=False)
    assert code == 0
    assert "Europe/Paris" in out.splitlines()[0]
    assert "standard      36 months" in out
    file.write_text("version: t2\ntimezone: Mars/Olympus\nclasses: {standard: {embargo_months: -1}}\n")
    code, out, err = shell.run("policy", "check", str(file), config=False)
    assert (code, out) == (7, "")
    for words in ("timezone", "embargo_months", "metadata"):
        assert words in err
    assert shell.run("policy", "check", str(file) + ".none", config=False)[0] == 7


def today(who: Principal) -> Principal:
    """The person as a login of this day says; the command has no clock but the machine's."""
    return who.model_copy(update={"checked_at": datetime.now(UTC)})


def test_explain_tells_the_decision_by_its_exit_code(shell: Shell) -> None:
    shell.login(today(COLIN), OSCAR)
    assert explain(shell, OPEN) == (0, "read", "open: open")
    assert explain(shell, RAW) == (4, "metadata", "standard: embargoed")
    assert explain(shell, HIDDEN) == (3, "hidden", "confidential: not_found")
    assert explain(shell, "test:MA-2:none") == (3, "unknown", None)
    assert explain(shell, RAW, "--as", "colin") == (0, "read", "standard: membership")
    assert explain(shell, RAW, "--as", "oscar") == (4, "metadata", "standard: embargoed")
    assert explain(shell, HIDDEN, "--as", "oscar") == (3, "hidden", "confidential: not_found")


def test_a_person_is_named_in_every_way(shell: Shell) -> None:
    sam = person("sam", orcid="0000-0002-1825-0097")
    shell.login(today(COLIN), sam)
    for name in (("colin",), (COLIN.account,), (ISSUER, "colin")):
        assert explain(shell, RAW, "--as", *name) == (0, "read", "standard: membership")
    for name in (("sam",), (sam.account,), ("0000-0002-1825-0097",)):
        code, facts = shell.json("policy", "explain", RAW, "--as", *name)
        assert (code, facts["reader"]) == (0, sam.account)
        assert facts["reason"] == "local_contact of MA-2 (user_office:office)"
    for words in (("dataset", "get", RAW), ("dataset", "list", "--readable")):
        for name in (COLIN.account, "0000-0002-1825-0097"):
            assert shell.json(*words, "--as", name)[0] == 0


def test_a_login_too_long_ago_is_named_where_its_memberships_count_no_more(shell: Shell) -> None:
    shell.login(COLIN)
    code, facts = shell.json("policy", "explain", RAW, "--as", "colin")
    assert (code, facts["rule"]) == (4, "standard: embargoed")
    assert (
        facts["login"]
        == f"last checked {COLIN.checked_at.isoformat()}, too long ago: only rows of user offices count"
    )
    shell.login(today(COLIN))
    assert "too long ago" not in shell.json("policy", "explain", RAW, "--as", "colin")[1]["login"]


def test_who_never_logged_in_is_explained_by_the_user_office(shell: Shell) -> None:
    for name in (("ines",), (ISSUER, "ines"), ("0000-0002-1825-0097",)):
        assert explain(shell, RAW, "--as", *name) == (0, "read", "standard: membership")
    assert explain(shell, HIDDEN, "--as", "0000-0002-1825-0097")[0] == 3


@pytest.mark.parametrize(
    "name",
    [
        ("nobody",),
        ("u-" + "a" * 26,),
        ("0000-0001-5109-3700",),
        ("https://other.example", "ines"),
        (ISSUER, "Ines"),
        ("ines ",),
        ("\0",),
        ("",),
        ("x" * 600,),
    ],
)
def test_an_unknown_person_is_not_found_and_told_so(shell: Shell, name: tuple[str, ...]) -> None:
    code, out, err = shell.run("policy", "explain", RAW, "--as", *name)
    assert (code, out) == (3, "")
    assert "no user office names such a person" in err
    assert len(err) < 600


def test_an_account_that_was_ended_is_told_so(shell: Shell) -> None:
    shell.login(COLIN)
    service = shell.facility.service()
    with service.database.writing() as session:
        remove_principal(session, COLIN.account, NOW)
    service.stop()
    code, _, err = shell.run("policy", "explain", RAW, "--as", "colin")
    assert code == 4
    assert "were ended" in err


def test_two_people_with_one_orcid_are_told_apart_by_their_accounts(shell: Shell) -> None:
    twins = [person(name, orcid="0000-0002-1825-0097") for name in ("sam", "sam2")]
    shell.login(*twins)
    code, _, err = shell.run("policy", "explain", RAW, "--as", "0000-0002-1825-0097")
    assert code == 2
    assert all(who.account in err for who in twins)


def test_explain_tells_all_of_the_decision(shell: Shell) -> None:
    code, facts = shell.json("policy", "explain", RAW, "--as", "ines", "--at", "2027-01-01T00:00:00Z")
    assert code == 0
    assert facts | {"policy": ""} == {
        "pid": RAW,
        "decision": "read",
        "rule": "standard: membership",
        "until": None,
        "reason": "pi of MA-2 (user_office:office)",
        "because": "membership",
        "refusal": None,
        "state": "metadata_open",
        "opens_at": AFTER,
        "may_write": True,
        "may_mount": True,
        "required_assurance": [],
        "required_acr": [],
        "reader": person("ines").account,
        "login": "never: only rows of user offices count",
        "at": "2027-01-01T00:00:00+00:00",
        "policy": "",
    }


def test_a_proposal_is_explained_as_its_raw_data(shell: Shell) -> None:
    for name, words, expected in (
        ("MA-2", (), (4, "metadata", "standard: embargoed")),
        ("MA-2", ("--as", "ines"), (0, "read", "standard: membership")),
        ("TO-3", (), (3, "hidden", "confidential: not_found")),
        ("MA", (), (3, "unknown", None)),
        ("MA-20", (), (3, "unknown", None)),
        ("\0", (), (3, "unknown", None)),
    ):
        assert explain(shell, name, *words) == expected
    assert shell.json("policy", "explain", "OP-1")[1]["proposal"] == "OP-1"


def test_a_proposal_without_a_rule_is_explained_as_such(shell: Shell) -> None:
    shell.facility.write_policy({"open": CLASSES["open"]}, "t2")
    assert explain(shell, RAW) == (3, "hidden", "no rule applies: not_found")
    assert explain(shell, RAW, "--as", "ines") == (0, "read", "no rule applies: membership")


def test_explain_answers_for_another_time(shell: Shell) -> None:
    assert explain(shell, RAW, "--at", "2028-10-09T23:59:59+02:00")[0] == 4
    assert explain(shell, RAW, "--at", AFTER) == (0, "read", "standard: open")
    assert explain(shell, RAW, "--at", "2028-10-09T22:00:00Z") == (0, "read", "standard: open")
    assert explain(shell, OPEN, "--at", "2021-03-02T00:00:00Z")[0] == 4
    code, out, _ = shell.run("policy", "explain", RAW, "--at", "2028-01-01T00:00:00Z")
    assert code == 4
    assert "until: 2028-10-10T00:00:00+02:00" in out.splitlines()


def test_explain_knows_when_a_membership_ends(shell: Shell) -> None:
    shell.facility.write_office(members=(MEMBERS[0].removesuffix(",") + ",2027-01-31",))
    who = ("--as", ISSUER, "ines")
    code, facts = shell.json("policy", "explain", RAW, *who, "--at", "2027-01-31T23:59:59+01:00")
    assert (code, facts["until"]) == (0, "2027-01-31T23:00:00+00:00")
    assert explain(shell, RAW, *who, "--at", "2027-02-01T00:00:00+01:00")[0] == 4


@pytest.mark.parametrize(
    "at",
    [
        "yesterday",
        "2028-10-10",
        "2028-10-10T00:00:00",
        "",
        "2028-13-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_a_time_that_is_none_is_a_usage_error(shell: Shell, at: str) -> None:
    code, out, err = shell.run("policy", "explain", RAW, "--at", at)
    assert (code, out) == (2, "")
    assert "zone" in err


def test_explaining_a_stranger_leaves_no_person_behind(shell: Shell) -> None:
    explain(shell, RAW, "--as", "ines")
    shell.run("policy", "explain", RAW, "--as", ISSUER, "ghost")
    service = shell.facility.service()
    try:
        assert [service.principal(person(name).account) for name in ("ghost", "ines")] == [None, None]
    finally:
        service.stop()


def test_explaining_another_time_stamps_nothing_with_it(shell: Shell) -> None:
    shell.facility.write_office(members=MEMBERS[1:])
    explain(shell, RAW, "--at", "2099-01-01T00:00:00Z")
    service = shell.facility.service()
    try:
        with service.database.reading() as session:
            read = session.scalars(select(SourceRow.read_at)).all()
            removed = session.scalars(select(MemberRow.removed_at)).all()
        assert [when for when in (*read, *removed) if when is not None and when.year == 2099] == []
    finally:
        service.stop()
