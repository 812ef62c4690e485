"""The verbs `beamhub catalogue`, `dataset`, `policy` and `proposal`, as a person at a shell uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import beamhub_catalogue
from beamhub_catalogue.models import AuditRow, MemberRow, SourceRow
from beamhub_catalogue.people import remove_principal, store_principal
from beamhub_core.command import main
from beamhub_core.identity import Principal
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW, copy_of, prepare_with_data
from catalogue.catalogue_parts import (
    CLASSES,
    COLIN,
    INES,
    ISSUER,
    MEMBERS,
    NOW,
    OSCAR,
    Facility,
    person,
    write_master,
)

AFTER = "2028-10-10T00:00:00+02:00"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_with_data(tmp_path_factory.mktemp("prepared"))


class Shell:
    """A facility and the command, run in this process."""

    def __init__(self, facility: Facility, capsys: pytest.CaptureFixture[str]) -> None:
        self.facility, self._capsys = facility, capsys
        self.config = facility.folder / "facility.yaml"
        self.config.write_text(json.dumps(facility.config().model_dump(mode="json")))

    def run(self, *words: str, config: bool = True) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        more = ["--config", str(self.config)] if config else []
        try:
            code = main([*words, *more])
        except SystemExit as usage:
            code = int(usage.code or 0)
        seen = self._capsys.readouterr()
        return code, seen.out, seen.err

    def json(self, *words: str, config: bool = True) -> tuple[int, dict[str, Any]]:
        """Exit code and the one JSON object on standard output."""
        code, out, _ = self.run(*words, "--json", config=config)
        found: dict[str, Any] = json.loads(out)
        return code, found

    def login(self, *people: Principal) -> None:
        """What web knows of people."""
        service = self.facility.service()
        with service.database.writing() as session:
            for who in people:
                store_principal(session, who, service.config.login, who.checked_at)
        service.stop()


@pytest.fixture
def shell(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(copy_of(prepared, tmp_path / "stocked"), capsys)


def test_harvest_says_what_it_found_and_what_stays_set_aside(shell: Shell) -> None:
    write_master(shell.facility.pool / "OP-1/raw/scan2/scan2.h5", experiment_identifier="OP-1")
    (shell.facility.pool / "OP-1/raw/bad.h5").write_text("no HDF5 at all")
    code, first = shell.json("catalogue", "harvest", "--pool", "pool", "--path", "OP-1/raw")
    assert (code, first["harvested"], first["datasets"]) == (0, 2, 2)  # a copy's inodes are new
    assert [(p["source"], p["file"]) for p in first["problems"]] == [("harvest:pool", "OP-1/raw/bad.h5")]
    shell.run("catalogue", "harvest")
    code, out, _ = shell.run("catalogue", "harvest")
    assert code == 0
    summary, problem, *rest = out.splitlines()
    assert summary == "0 harvested, 5 unchanged, 4 dataset(s), 1 problem(s)"
    assert problem.startswith("OP-1/raw/bad.h5: ")
    assert rest == []


def test_harvest_of_an_unknown_pool_is_a_usage_error(shell: Shell) -> None:
    code, out, err = shell.run("catalogue", "harvest", "--pool", "other")
    assert (code, out) == (2, "")
    assert "other" in err


def test_the_list_is_what_the_reader_may_know_of(shell: Shell) -> None:
    shell.login(INES)
    for words, pids in (
        (("dataset", "list"), {RAW, OPEN}),
        (("dataset", "list", "--as", "ines"), {RAW, OPEN, HIDDEN}),
    ):
        code, page = shell.json(*words)
        assert (code, {hit["pid"] for hit in page["hits"]}) == (0, pids)
    assert shell.json("dataset", "list", "MA-2")[1]["total"] == 1
    code, out, _ = shell.run("dataset", "list", "no-such-word")
    assert (code, out) == (0, "0 dataset(s)\n")


def test_a_dataset_is_shown_as_the_reader_sees_it(shell: Shell) -> None:
    shell.login(INES)
    code, view = shell.json("dataset", "get", RAW)
    assert (code, view["full"], view["files"]) == (0, False, [])
    code, view = shell.json("dataset", "get", RAW, "--as", "ines")
    assert (code, view["full"], view["files"][0]["name"]) == (0, True, "scan1.h5")


def test_a_hidden_dataset_is_as_unknown_as_one_that_never_was(shell: Shell) -> None:
    told = []
    for pid in (HIDDEN, "test:TO-3:none"):
        code, out, err = shell.run("dataset", "get", pid)
        assert (code, out) == (3, "")
        told.append(err.split("[")[0])
    assert told[0] == told[1]
    code, answer = shell.json("dataset", "get", HIDDEN)
    assert (code, answer["ok"], answer["error"]) == (3, False, "Refused")


def test_a_person_who_never_logged_in_is_not_found(shell: Shell) -> None:
    for words in (("dataset", "list", "--as", "nobody"), ("dataset", "get", OPEN, "--as", "nobody")):
        code, _, err = shell.run(*words)
        assert code == 3
        assert "nobody" in err


def test_a_title_writes_nothing_to_the_terminal_but_text(shell: Shell) -> None:
    write_master(
        shell.facility.pool / "OP-1/raw/esc/esc.h5", experiment_identifier="OP-1", title="red\x1b[31m\x07"
    )
    shell.run("catalogue", "harvest")
    for words in (("dataset", "list", "red"), ("dataset", "get", "test:OP-1:esc")):
        code, out, _ = shell.run(*words)
        assert code == 0
        assert not {"\x1b", "\x07"} & set(out)


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


def explain(shell: Shell, *words: str) -> tuple[int, str, str | None]:
    code, facts = shell.json("policy", "explain", *words)
    return code, facts["decision"], facts["rule"]


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


@pytest.mark.parametrize(
    "words",
    [
        ("dataset",),
        ("dataset", "get"),
        ("policy", "explain", RAW, "--as"),
        ("policy", "explain", RAW, "--as", "a", "b", "c"),
        ("policy", "explain", "--as", "ines", RAW),
        ("proposal",),
        ("proposal", "extend", "MA-2", "--reason", "r"),
        ("proposal", "extend", "MA-2", "--months", "12"),
        ("proposal", "extend", "MA-2", "--months", "x", "--reason", "r"),
        ("proposal", "release", "MA-2", "--on", "2027-02-29", "--reason", "r"),
        ("proposal", "consent", "MA-2", "--until", "2027-01-01", "--reason", "r"),
        ("proposal", "extend", "MA-2", "--months", "0", "--reason", "r"),
        ("proposal", "extend", "MA-2", "--months", "12", "--reason", " "),
        ("proposal", "withdraw", "MA-2", "--dataset", "p" * 301, "--reason", "r"),
    ],
)
def test_missing_words_are_a_usage_error(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run(*words)[0] == 2


def test_a_configuration_that_is_none_is_told_by_its_code(shell: Shell) -> None:
    shell.config.write_text("name: [")
    assert shell.run("dataset", "list")[0] == 7


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


def test_the_list_is_bounded_and_its_pages_do_not_overlap(shell: Shell) -> None:
    seen = []
    for page in ("1", "2", "3", "4"):
        words = ("dataset", "list", "--as", "ines", "--limit", "1", "--page", page)
        code, found = shell.json(*words)
        assert (code, found["total"], found["n_pages"]) == (0, 3, 3)
        seen += [hit["pid"] for hit in found["hits"]]
    assert sorted(seen) == sorted([RAW, OPEN, HIDDEN])
    for limit, page in (("1000000", "1"), ("-5", "0"), ("0", "-1"), ("3", "999999999999")):
        code, found = shell.json("dataset", "list", "--as", "ines", "--limit", limit, "--page", page)
        assert code == 0
        assert 1 <= found["page_size"] <= 100
    code, out, _ = shell.run("dataset", "list", "--as", "ines", "--limit", "1")
    assert out.splitlines()[-1] == "3 dataset(s), page 1 of 3"


def test_the_list_narrows_to_a_proposal_and_to_what_may_be_read(shell: Shell) -> None:
    assert shell.json("dataset", "list", "--proposal", "MA-2")[1]["total"] == 1
    assert shell.json("dataset", "list", "--proposal", "MA-")[1]["total"] == 0
    assert shell.json("dataset", "list", "--proposal", "TO-3")[1]["total"] == 0
    assert [hit["pid"] for hit in shell.json("dataset", "list", "--readable")[1]["hits"]] == [OPEN]


class TestProposal:
    """`beamhub proposal`, by an operator."""

    @pytest.fixture
    def steps(self, shell: Shell) -> Shell:
        shell.facility.write_policy(
            CLASSES | {"standard": CLASSES["standard"] | {"extension_months": [12, 6]}}, "t2"
        )
        return shell

    def test_show_tells_what_the_policy_makes_of_it(self, steps: Shell) -> None:
        code, facts = steps.json("proposal", "show", "MA-2")
        assert code == 0
        assert (facts["rule"], facts["opens_at"], facts["extensions_left"]) == ("standard", AFTER, [12, 6])
        assert (facts["datasets"], facts["acts"], facts["metadata"]) == (1, [], "public")
        code, out, _ = steps.run("proposal", "show", "TO-3")
        assert code == 0
        assert "metadata: team" in out.splitlines()

    def test_an_unknown_proposal_is_not_found(self, steps: Shell) -> None:
        for words in (
            ("show", "MA-20"),
            ("show", "\0"),
            ("extend", "MA-20", "--months", "1", "--reason", "r"),
            ("withdraw", "MA-20", "--reason", "r"),
        ):
            code, out, err = steps.run("proposal", *words)
            assert (code, out) == (3, "")
            assert "No user office knows" in err

    def test_an_extension_is_made_shown_and_revoked(self, steps: Shell) -> None:
        code, made = steps.json("proposal", "extend", "MA-2", "--months", "12", "--reason", "a thesis")
        assert (code, made["opens_at"]) == (0, AFTER.replace("2028", "2029"))
        code, facts = steps.json("proposal", "show", "MA-2")
        (told,) = facts["acts"]
        assert (told["act"], told["months"], told["reason"]) == (made["act"], 12, "a thesis")
        assert (told["made_by"], facts["extensions_left"]) == ("operator", [6])
        code, out, _ = steps.run("proposal", "show", "MA-2")
        assert f"act {made['act']}: extension months 12 by operator at " in out
        code, undone = steps.json("proposal", "revoke", made["act"])
        assert (code, undone["opens_at"], undone["revoked_by"]) == (0, AFTER, "operator")
        code, out, _ = steps.run("proposal", "revoke", made["act"])
        assert code == 0
        assert "was before" in out
        assert "revoked by operator" in steps.run("proposal", "show", "MA-2")[1]
        assert self.audit_of(steps) == ["act", "act_revoked"]

    @staticmethod
    def audit_of(shell: Shell) -> list[str]:
        service = shell.facility.service()
        with service.database.reading() as session:
            found = session.scalars(select(AuditRow.kind).where(AuditRow.subject == "MA-2")).all()
        service.stop()
        return list(found)

    def test_a_release_a_withdrawal_and_a_consent_are_made(self, steps: Shell) -> None:
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
        later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        code, made = steps.json("proposal", "release", "TO-3", "--on", tomorrow, "--reason", "a paper")
        assert (code, made["opens_at"][:10]) == (0, tomorrow)
        code, made = steps.json("proposal", "consent", "MA-2", "--until", later, "--reason", "a ticket")
        assert (code, made["support_until"][:10]) == (0, later[:10])
        code, made = steps.json(
            "proposal", "withdraw", "MA-2", "--dataset", RAW, "--reason", "a wrong sample"
        )
        assert (code, made["withdrawn"]) == (0, False)
        assert explain(steps, RAW, "--as", "ines") == (4, "metadata", "standard: withdrawn")
        assert steps.run("proposal", "revoke", made["act"])[0] == 0
        assert explain(steps, RAW, "--as", "ines")[0] == 0
        code, made = steps.json("proposal", "withdraw", "OP-1", "--reason", "a wrong sample")
        assert (code, made["withdrawn"]) == (0, True)
        assert explain(steps, OPEN)[0] == 4

    def test_what_the_policy_does_not_allow_is_refused_with_its_limit(self, steps: Shell) -> None:
        for words, reason in (
            (("extend", "MA-2", "--months", "13"), "allows 12 months"),
            (("extend", "OP-1", "--months", "1"), "is open since 2021-03-05"),
            (("release", "MA-2", "--on", "2001-01-01"), "is past"),
            (("consent", "MA-2", "--until", "2001-01-01T00:00:00Z"), "ended already"),
        ):
            code, out, err = steps.run("proposal", *words, "--reason", "r")
            assert (code, out) == (4, "")
            assert reason in err
        assert self.audit_of(steps) == []

    def test_a_dataset_of_another_proposal_is_not_withdrawn_with_it(self, steps: Shell) -> None:
        code, answer = steps.json("proposal", "withdraw", "MA-2", "--dataset", OPEN, "--reason", "r")
        assert (code, answer["ok"]) == (3, False)

    def test_an_unknown_act_is_not_found(self, steps: Shell) -> None:
        for name in ("f" * 32, "MA-2", "\0"):
            code, _, err = steps.run("proposal", "revoke", name)
            assert code == 3
            assert "proposal show" in err


def test_the_words_of_the_verbs_load_no_library() -> None:
    code = """
import sys, beamhub_catalogue, beamhub_catalogue.command
heavy = ("sqlalchemy", "fastapi", "alembic", "h5py", "numpy", "pydantic", "beamhub_catalogue.verbs",
    "beamhub_catalogue.policy_verbs", "beamhub_catalogue.proposal_verbs")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_room_gives_its_service_when_asked_and_nothing_else() -> None:
    from beamhub_catalogue.service import CatalogueService

    assert beamhub_catalogue.CatalogueService is CatalogueService
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = beamhub_catalogue.no_such_name
