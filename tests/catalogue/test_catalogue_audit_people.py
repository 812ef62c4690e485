"""People and their accounts: joined by ORCID or facility account, shown, linked, exported and erased."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, select

from beamhub_catalogue.account_erasure import SessionsRun, erase, without
from beamhub_catalogue.audit_chain import verify
from beamhub_catalogue.database import Database
from beamhub_catalogue.linked_people import accounts_of
from beamhub_catalogue.models import (
    ActRow,
    AuditRow,
    DatasetRow,
    IdentityRow,
    LogbookRow,
    PersonRow,
    SessionRow,
    ShareRow,
)
from beamhub_core.command import main
from beamhub_core.identity import Principal, account_name
from beamhub_core.session import SessionPlan
from catalogue.catalogue_api_parts import RAW, Stocked
from catalogue.catalogue_parts import ISSUER, NOW, person, session_plan, write_product

pytestmark = pytest.mark.slow

ORCID, OTHER_ORCID = "0000-0001-5109-3700", "0000-0002-1694-233X"
PLAINTIFF = "zygmunt-brzeczyszczykiewicz"


def somebody(subject: str, *proposals: str, issuer: str = ISSUER, **facts: Any) -> Principal:
    words = person(subject, *proposals).model_dump(mode="json")
    return Principal.model_validate(
        words | {"issuer": issuer, "account": account_name(issuer, subject)} | facts
    )


def family(stocked: Stocked, who: Principal) -> set[str]:
    with stocked.service.database.reading() as session:
        return set(accounts_of(session, who.account))


def kinds(stocked: Stocked) -> list[str]:
    with stocked.service.database.reading() as session:
        return list(session.scalars(select(AuditRow.kind).order_by(AuditRow.seq)))


def identity(stocked: Stocked, who: Principal) -> IdentityRow:
    with stocked.service.database.reading() as session:
        return session.get_one(IdentityRow, who.account)


def intact(database: Database) -> bool:
    with database.reading() as session:
        return verify(session).fault is None


# Joining


@pytest.mark.parametrize("shared", [{"orcid": ORCID}, {"facility_account": "zb1234"}])
def test_two_accounts_with_one_orcid_or_facility_account_are_one_person(
    stocked: Stocked, shared: dict[str, str]
) -> None:
    one, other = somebody("zb-one", **shared), somebody("zb-two", issuer="https://other.example", **shared)
    stocked.api.push(one, other)
    assert family(stocked, one) == family(stocked, other) == {one.account, other.account}
    assert identity(stocked, other).linked_by == next(iter(shared))
    assert "identity_linked" in kinds(stocked)


def test_a_name_never_joins(stocked: Stocked) -> None:
    one = somebody("zb-one", display_name="Zoe Baker")
    other = somebody("zb-two", display_name="Zoe Baker")
    stocked.api.push(one, other)
    assert family(stocked, one) == {one.account}


def test_an_account_that_leads_to_two_people_is_a_third_and_is_reported_once(stocked: Stocked) -> None:
    one, other = somebody("zb-one", orcid=ORCID), somebody("zb-two", facility_account="zb1234")
    both = somebody("zb-three", orcid=ORCID, facility_account="zb1234")
    stocked.api.push(one, other, both, both)
    assert family(stocked, both) == {both.account}
    assert identity(stocked, both).conflict == "orcid_of_another"
    assert kinds(stocked).count("identity_conflict") == 1


def test_an_account_whose_orcid_becomes_anothers_stays_where_it_is(stocked: Stocked) -> None:
    one, other = somebody("zb-one", orcid=ORCID), somebody("zb-two", orcid=OTHER_ORCID)
    moved = somebody("zb-two", orcid=ORCID)
    stocked.api.push(one, other, moved)
    assert family(stocked, one) == {one.account}
    assert identity(stocked, moved).conflict == "orcid_of_another"
    stocked.api.push(other)
    assert identity(stocked, other).conflict is None


def test_a_person_alone_may_change_an_orcid(stocked: Stocked) -> None:
    stocked.api.push(somebody("zb-one", orcid=ORCID), somebody("zb-one", orcid=OTHER_ORCID))
    with stocked.service.database.reading() as session:
        row = session.get_one(IdentityRow, somebody("zb-one").account)
        assert session.get_one(PersonRow, row.person_id).orcid == OTHER_ORCID


def test_a_linked_account_that_tells_another_orcid_is_a_conflict(stocked: Stocked) -> None:
    one, other = somebody("zb-one", orcid=ORCID), somebody("zb-two", orcid=ORCID)
    moved = somebody("zb-two", orcid=OTHER_ORCID)
    stocked.api.push(one, other, moved)
    assert identity(stocked, moved).conflict == "orcid_changed"


# Pushes


def test_a_refresh_is_recorded_only_when_it_changes_rights(stocked: Stocked) -> None:
    who = somebody("zb-one", "MA-2")
    stocked.api.push(who, who, who)
    before = kinds(stocked)
    stocked.api.push(somebody("zb-one", "OP-1"))
    after = kinds(stocked)[len(before) :]
    assert before.count("account_known") == 5  # four people of the stock, and this one
    assert after == ["rights_changed"]
    with stocked.service.database.reading() as session:
        row = session.scalars(select(AuditRow).where(AuditRow.kind == "rights_changed")).one()
        assert (row.detail["gained"], row.detail["lost"]) == (["OP-1"], ["MA-2"])
        assert row.proposals == ["MA-2", "OP-1"]


# The command


class Shell:
    """The command on a facility."""

    def __init__(self, stocked: Stocked, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = stocked.facility.folder / "facility.yaml"
        self.config.write_text(json.dumps(stocked.facility.config().model_dump(mode="json")))
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, Any]:
        code = main([*words, "--config", str(self.config), "--json"])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def shell(stocked: Stocked, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(stocked, capsys)


def test_an_operator_links_shows_and_unlinks(stocked: Stocked, shell: Shell) -> None:
    one, other = somebody("zb-one"), somebody("zb-two", orcid=ORCID)
    stocked.api.push(one, other)
    assert shell.run("account", "link", "zb-one", "zb-two")[1]["moved"] == [other.account]
    assert family(stocked, one) == {one.account, other.account}
    code, told = shell.run("account", "show", "zb-two")
    assert (code, told["orcid"], len(told["identities"])) == (0, ORCID, 2)
    assert shell.run("account", "unlink", "zb-two")[1]["unlinked"] is True
    assert shell.run("account", "unlink", "zb-two")[1]["unlinked"] is False
    assert family(stocked, one) == {one.account}
    stocked.api.push(other)  # the next login does not join them again
    assert family(stocked, one) == {one.account}
    told = [kind for kind in kinds(stocked) if kind.startswith("identity")]
    assert told == ["identity_linked", "identity_unlinked", "identity_conflict"]
    assert intact(stocked.service.database)


def test_nobody_and_two_people_are_no_account(stocked: Stocked, shell: Shell) -> None:
    stocked.api.push(somebody("zb-one"), somebody("zb-one", issuer="https://other.example"))
    for subject in ("nobody", "u-" + "a" * 26, "zb-one"):
        code, told = shell.run("account", "show", subject)
        assert (code, told["error"]) == (3, "UnknownAccount")


# Export and erasure


def busy(stocked: Stocked) -> tuple[Principal, SessionPlan]:
    """Somebody who did everything that leaves a trace, under a name that stands nowhere else."""
    who = somebody(PLAINTIFF, "MA-2", orcid=ORCID, facility_account="zbrzecz", display_name="Zygmunt Brzęczy")
    stocked.api.push(who)
    plan = session_plan(
        stocked.facility, who, environment_variables={"WHO": who.subject, "JUPYTERHUB_USER": who.account}
    )
    home = stocked.facility.folder / "homes" / who.account
    stocked.api.running(plan)
    told = {"who": who.display_name, "account": who.account}
    write_product(home / "mine.nxs", RAW, title=f"By {who.display_name}", **told)
    processed = stocked.facility.pool / "MA-2/processed/ours.nxs"
    write_product(processed, RAW, parameters={"by": who.subject}, **told)
    assert stocked.api.product(home / "mine.nxs").status_code == 201
    assert stocked.api.product(processed).status_code == 201
    assert stocked.api.grants(who, RAW).status_code == 200
    assert stocked.api.grants(who, who.subject).status_code == 404
    about = {"account": who.account, "proposal": "MA-2", "made_at": NOW}
    reason = f"asked by {who.display_name}"
    act = {"id": "a" * 32, "kind": "extension", "months": 6, "reason": reason, "made_by": who.account}
    note = {"title": f"{who.display_name} was here", "text": who.orcid, "tags": [who.subject]}
    with stocked.service.database.writing() as session:
        session.add(LogbookRow(proposal="MA-2", kind="note", account=who.account, at=NOW, **note))
        session.add(ShareRow(key_digest="0" * 64, kind="dataset", request={}, **about))
        session.add(ActRow(proposal="MA-2", made_at=NOW, **act))
    return who, plan


def texts(database: Database) -> dict[str, str]:
    """Every table, as one text each."""
    tables = MetaData()
    with database.reading() as session:
        tables.reflect(session.connection())
        found = {}
        for table in tables.sorted_tables:
            rows = [list(row) for row in session.execute(select(table))]
            found[table.name] = json.dumps(rows, default=str, ensure_ascii=False)
        return found


def holders(database: Database, words: tuple[str, ...]) -> set[str]:
    return {name for name, text in texts(database).items() if any(word in text for word in words)}


def test_a_person_gets_everything_that_is_stored_about_them(
    stocked: Stocked, shell: Shell, tmp_path: Path
) -> None:
    who, plan = busy(stocked)
    target = tmp_path / "export.json"
    code, _ = shell.run("account", "export", who.subject, "-o", str(target))
    told = json.loads(target.read_text())
    assert code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert told["identities"][0]["subject"] == who.subject
    assert told["person"][0]["orcid"] == ORCID
    assert [m["proposal"] for m in told["memberships"]] == ["MA-2"]
    assert [s["plan_id"] for s in told["sessions"]] == [plan.id]
    assert len(told["products"]) == 2
    assert len(told["logbook"]) == len(told["acts"]) == len(told["shares"]) == 1
    assert {"account_known", "plan", "product", "decision"} <= {entry["kind"] for entry in told["audit"]}
    assert not any(name.endswith("digest") for row in told["sessions"] + told["shares"] for name in row)
    again, error = shell.run("account", "export", who.subject, "-o", str(target))
    assert (again, error["error"]) == (2, "BadArgument")


def test_nobody_is_erased_while_a_session_lives(stocked: Stocked, shell: Shell) -> None:
    who, plan = busy(stocked)
    with pytest.raises(SessionsRun) as refused:
        erase(stocked.service.database, who.account, NOW, "root")
    assert refused.value.plan_ids == (plan.id,)
    assert shell.run("account", "erase", who.subject)[0] == 6


def test_after_erasure_no_column_of_no_table_and_no_byte_of_the_file_holds_the_person(
    stocked: Stocked, shell: Shell
) -> None:
    who, plan = busy(stocked)
    stocked.api.update(plan, state="ended", reason=f"stopped by {who.display_name}")
    words = (who.subject, who.display_name, ORCID, "zbrzecz", who.account)
    database = stocked.service.database
    assert len(holders(database, words)) >= 9
    before = texts(database)
    code, dry = shell.run("account", "erase", who.subject, "--dry-run")
    assert code == 0
    # The command asks the user office again, and writes anew what acts make of its proposals.
    after = texts(database) | {name: before[name] for name in ("sources", "proposals")}
    assert after == before
    code, told = shell.run("account", "erase", who.subject)
    assert code == 0
    assert told["changed"] == dry["changed"]
    assert told["kept"] == []
    assert sorted(told["files"]) == [f"home: {who.account}/mine.nxs", "pool: MA-2/processed/ours.nxs"]
    assert holders(database, words) == set()
    assert intact(database)
    for file in (stocked.facility.folder / "web").glob("web.sqlite*"):
        content = file.read_bytes()
        assert not any(word.encode() in content for word in words), file
    stored = stocked.api.ask("GET", f"/sessions/{plan.id}").json()
    assert SessionPlan.model_validate(stored["plan"]).account == "erased"


def test_an_erased_person_who_comes_back_is_a_new_person(stocked: Stocked) -> None:
    who, plan = busy(stocked)
    stocked.api.update(plan, state="ended")
    erase(stocked.service.database, who.account, NOW, "root")
    stocked.api.push(who)
    assert len(stocked.service.own_audit(who.account).entries) == 1
    assert stocked.service.own_audit(who.account).entries[0].kind == "account_known"
    with stocked.service.database.reading() as session:
        erased = session.scalars(select(PersonRow).where(PersonRow.erased_at.is_not(None))).one()
        assert (erased.name, erased.orcid) == ("", None)
        assert session.get_one(IdentityRow, who.account).person_id != erased.id
        rows = session.scalars(select(DatasetRow).where(DatasetRow.private_to.is_not(None))).all()
        assert [row.private_to for row in rows] == ["erased"]
        assert session.get_one(SessionRow, plan.id).account == "erased"
    assert intact(stocked.service.database)


def test_all_linked_accounts_are_erased_together(stocked: Stocked) -> None:
    one, other = somebody("zb-one", orcid=ORCID), somebody("zb-two", orcid=ORCID)
    stocked.api.push(one, other)
    done = erase(stocked.service.database, other.account, NOW, "root")
    assert set(done.accounts) == {one.account, other.account}
    assert holders(stocked.service.database, ("zb-one", "zb-two", ORCID)) == set()


def test_what_the_user_office_tells_stays_and_is_named(stocked: Stocked) -> None:
    stocked.api.grants(person("ines"), RAW)
    done = erase(stocked.service.database, person("ines").account, NOW, "root")
    assert {where.split(".")[0] for where in done.kept} <= {"members", "sources", "datasets"}
    assert any(where.startswith("members.subject") for where in done.kept)


def test_words_are_removed_as_words_and_not_inside_others() -> None:
    words = frozenset({"ines", "Anna Li", "ab"})
    assert without({"a": ["machines", "by ines", "Anna Li!", "ab"]}, words) == {
        "a": ["machines", "by erased", "erased!", "ab"]
    }


def test_the_file_is_a_database_still(stocked: Stocked) -> None:
    erase(stocked.service.database, person("oscar").account, NOW, "root")
    with sqlite3.connect(stocked.facility.folder / "web/web.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
