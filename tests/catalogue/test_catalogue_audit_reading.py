"""Who reads which entries of the audit, also at the internal API and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from beamhub_catalogue.audit import record
from beamhub_catalogue.audit_reading import OUTSIDER, EntryPage, EntryView
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import AuditRow
from beamhub_core.command import main
from beamhub_core.rights import Refusal
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW, Stocked, mount_of, open_api, plan_with
from catalogue.catalogue_parts import COLIN, INES, NOW, OSCAR, TOKENS, person, session_plan

REFERENCE = "0123456789abcdef0123456789abcdef"


def own(stocked: Stocked, who: Any, kind: str) -> list[EntryView]:
    return [e for e in stocked.service.own_audit(who.account).entries if e.kind == kind]


def of_proposal(stocked: Stocked, who: Any, proposal: str) -> list[EntryView]:
    page = stocked.service.proposal_audit(who, proposal)
    assert isinstance(page, EntryPage)
    return list(page.entries)


# Reading


def test_a_person_reads_what_they_did_and_nothing_of_others(stocked: Stocked) -> None:
    stocked.api.grants(OSCAR, OPEN)
    stocked.api.grants(INES, RAW)
    [entry] = own(stocked, OSCAR, "decision")
    assert (entry.who, entry.subject, entry.detail["decision"]) == ("you", OPEN, "granted")
    assert [part["because"] for part in entry.parts] == ["open"]
    assert len(stocked.service.own_audit("u-" + "a" * 26).entries) == 0


def test_a_refusal_does_not_tell_the_asker_which_dataset_exists(stocked: Stocked) -> None:
    stocked.api.grants(OSCAR, HIDDEN)
    stocked.api.grants(OSCAR, "test:TO-3:never-was")
    one, other = own(stocked, OSCAR, "decision")
    assert (one.subject, one.detail, one.parts) == (other.subject, other.detail, other.parts)
    assert one.detail == {"decision": "not_found", "n_datasets": 1}


def test_what_a_stranger_typed_is_not_kept(stocked: Stocked) -> None:
    stocked.api.grants(OSCAR, "Ines Ferreira, secret=hunter2")
    with stocked.service.database.reading() as session:
        row = session.scalars(select(AuditRow).where(AuditRow.kind == "decision")).one()
        assert "hunter2" not in str((row.subject, row.detail, row.proposals))
        assert row.detail["n_unknown"] == 1


def test_an_investigator_reads_what_touched_the_proposal_and_only_its_parts(stocked: Stocked) -> None:
    stocked.api.grants(COLIN, RAW, HIDDEN)
    [entry] = [e for e in of_proposal(stocked, INES, "MA-2") if e.kind == "decision"]
    assert entry.who == COLIN.display_name
    assert {part["proposal"] for part in entry.parts} == {"MA-2"}
    assert "TO-3" not in str(entry)


def test_an_investigator_learns_of_a_strangers_attempt_but_not_the_name(stocked: Stocked) -> None:
    stocked.api.grants(OSCAR, RAW)
    [entry] = [e for e in of_proposal(stocked, INES, "MA-2") if e.kind == "decision"]
    assert (entry.who, entry.subject, entry.detail["decision"]) == (OUTSIDER, RAW, "embargoed")
    assert OSCAR.display_name not in str(entry)


def test_an_investigator_sees_sessions_with_their_mounts(stocked: Stocked) -> None:
    mounts = [mount_of(stocked.facility, f"{p}/raw/scan1", pid=f"test:{p}:scan1") for p in ("MA-2", "TO-3")]
    stocked.api.running(plan_with(stocked.facility, COLIN, *mounts))
    state, plan = of_proposal(stocked, INES, "MA-2")[:2]
    assert (state.kind, state.detail) == ("state", {"state": "running"})
    assert (plan.kind, [(p["path"], p["mode"]) for p in plan.parts]) == ("plan", [("MA-2/raw/scan1", "ro")])
    assert "TO-3" not in str(plan)
    assert COLIN.account not in str((plan, state))


@pytest.mark.parametrize("who", [None, OSCAR, COLIN, person("sam", role="admin")])
def test_nobody_else_reads_a_proposals_entries(stocked: Stocked, who: Any) -> None:
    answers = [stocked.service.proposal_audit(who, proposal) for proposal in ("MA-2", "TO-3", "ZZ-9")]
    assert all(isinstance(answer, Refusal) for answer in answers)
    assert {(a.code, a.reason) for a in answers if isinstance(a, Refusal)} == {
        ("not_found", "There is no such proposal, or its record is not for you to read.")
    }


def test_an_investigator_who_left_reads_no_more(stocked: Stocked) -> None:
    assert isinstance(stocked.service.proposal_audit(INES, "MA-2"), EntryPage)
    stocked.facility.write_office(members=())
    assert isinstance(stocked.service.proposal_audit(INES, "MA-2"), Refusal)


def test_pages_follow_each_other_without_gap_or_overlap(stocked: Stocked) -> None:
    with stocked.service.database.writing() as session:
        for _ in range(120):
            part = {"proposal": "MA-2", "pid": RAW, "because": "membership"}
            record(session, "decision", RAW, NOW, account=INES.account, decision="granted", parts=[part])
    for ask in (
        lambda before: stocked.service.own_audit(INES.account, before),
        lambda before: stocked.service.proposal_audit(INES, "MA-2", before),
    ):
        found, before = [], None
        while True:
            page = ask(before)
            assert isinstance(page, EntryPage)
            found += [entry.seq for entry in page.entries]
            before = page.before
            if before is None:
                break
        assert found == sorted(set(found), reverse=True)
        assert len(found) >= 120


def test_a_recheck_that_repeats_itself_is_one_entry(stocked: Stocked) -> None:
    stocked.api.running(session_plan(stocked.facility, INES))
    stocked.facility.write_office(members=())
    for _ in range(3):
        assert stocked.api.ask("POST", "/recheck").json()[0]["action"] == "stop"
    assert len(own(stocked, INES, "recheck")) == 1


# The internal API


def scoped(stocked: Stocked, *scopes: str) -> None:
    """Let the client `reader` do more, as a configuration would."""
    config = stocked.facility.config()
    reader = config.web.clients[1].model_copy(update={"scopes": scopes})
    clients = (config.web.clients[0], reader)
    web = config.web.model_copy(update={"clients": clients})
    stocked.service.desk.config = config.model_copy(update={"web": web})


@pytest.fixture
def asking(stocked: Stocked) -> Iterator[Any]:
    scoped(stocked, "audit:read", "audit:write")
    with open_api(stocked.service) as api:
        yield lambda method, body=None, query="": api.ask(method, f"/audit{query}", body, TOKENS["reader"])


def test_the_hub_cannot_read_and_a_reader_cannot_write_without_the_scope(stocked: Stocked) -> None:
    assert stocked.api.ask("GET", "/audit").status_code == 403
    assert stocked.api.ask("GET", "/audit", token=None).status_code == 401
    notice = {"reference": REFERENCE, "kind": "login"}
    assert stocked.api.ask("POST", "/audit", notice, TOKENS["reader"]).status_code == 403


def test_a_notice_sent_twice_is_one_entry_and_another_under_its_reference_a_conflict(asking: Any) -> None:
    notice = {
        "reference": REFERENCE,
        "kind": "impersonation",
        "account": INES.account,
        "about": OSCAR.account,
        "code": "support_request",
    }
    first, again = asking("POST", notice), asking("POST", notice)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert asking("POST", notice | {"code": "other"}).status_code == 409
    assert asking("POST", notice | {"about": COLIN.account}).status_code == 409
    assert asking("POST", notice | {"account": None}).status_code == 409


def test_a_person_sees_who_acted_as_them(stocked: Stocked, asking: Any) -> None:
    notice = {
        "reference": REFERENCE,
        "kind": "impersonation",
        "account": INES.account,
        "about": OSCAR.account,
    }
    assert asking("POST", notice | {"code": "support_request"}).status_code == 201
    [entry] = own(stocked, OSCAR, "impersonation")
    assert (entry.who, entry.about) == (INES.display_name, "you")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "prune"},
        {"kind": "erasure"},
        {"kind": "login", "note": "x"},
        {"reference": "ines"},
        {"account": "ines"},
        {"code": "Ines Ferreira did this"},
        {"code": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJpbmVzIn0"},
        {"issuer": "https://ines@provider.example"},
        {"plan_id": "x"},
    ],
)
def test_a_notice_that_does_not_fit_is_refused_and_leaves_nothing(
    stocked: Stocked, asking: Any, change: dict[str, str]
) -> None:
    notice = {"reference": REFERENCE, "kind": "admin_act", "code": "stop_server"} | change
    before = _last(stocked.service.database)
    assert asking("POST", notice).status_code == 422
    assert _last(stocked.service.database) == before


def test_reading_somebodys_entries_is_an_entry_that_they_read(stocked: Stocked, asking: Any) -> None:
    stocked.api.grants(OSCAR, OPEN)
    answer = asking("GET", query=f"?account={OSCAR.account}&kind=decision").json()
    assert [e["subject"] for e in answer["entries"]] == [OPEN]
    [entry] = own(stocked, OSCAR, "entries_read")
    assert (entry.who, entry.detail["of"]) == ("a service of the platform", "person")
    assert asking("GET", query="?proposal=MA-2").status_code == 200
    assert [e.kind for e in of_proposal(stocked, INES, "MA-2")][:1] == ["entries_read"]


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=501", "?before=x", "?account=ines", "?since=2026-01-01", "?x=1"]
)
def test_a_question_that_does_not_fit_is_refused(asking: Any, query: str) -> None:
    assert asking("GET", query=query).status_code == 422


# The command


def run(stocked: Stocked, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    config = stocked.facility.folder / "facility.yaml"
    config.write_text(json.dumps(stocked.facility.config().model_dump(mode="json")))
    code = main(["audit", *words, "--config", str(config)])
    return code, capsys.readouterr().out


def test_an_operator_keeps_the_head_and_verifies_against_it(
    stocked: Stocked, capsys: pytest.CaptureFixture[str]
) -> None:
    _, head = run(stocked, capsys, "head")
    assert run(stocked, capsys, "verify", "--expect", head.strip())[0] == 0
    with stocked.service.database.writing() as session:
        session.execute(update(AuditRow).where(AuditRow.seq == 2).values(subject="forged"))
    code, out = run(stocked, capsys, "verify", "--json")
    assert (code, json.loads(out)["fault"]["seq"], json.loads(out)["fault"]["how"]) == (1, 2, "changed")
    code, out = run(stocked, capsys, "list", "--json", "--limit", "1")
    assert json.loads(out)["entries"][0]["kind"] == "verification_failed"
    assert run(stocked, capsys, "verify", "--expect", "x")[0] == 2


def test_an_operator_lists_by_person_and_is_recorded(
    stocked: Stocked, capsys: pytest.CaptureFixture[str]
) -> None:
    stocked.api.grants(OSCAR, OPEN)
    code, out = run(stocked, capsys, "list", "--account", "oscar", "--since", NOW.isoformat())
    assert code == 0
    assert OSCAR.account in out
    [entry] = own(stocked, OSCAR, "entries_read")
    assert entry.who == "an operator"
    assert run(stocked, capsys, "list", "--since", "yesterday")[0] == 2
    assert run(stocked, capsys, "list", "--account", "nobody")[0] == 3


def _last(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.max(AuditRow.seq))) or 0
