"""The chain of the audit: any tampering is found, honest work never is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from beamhub_catalogue.audit import Context, find_pseudonym, record
from beamhub_catalogue.audit_chain import Mark, Verdict, entry_digest, head_of, verify
from beamhub_catalogue.audit_kinds import KINDS, NotRecordable
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import AuditActorRow, AuditHeadRow, AuditProposalRow, AuditRow, Base
from catalogue.catalogue_parts import COLIN, INES, NOW, OSCAR

PEOPLE = (INES, OSCAR, COLIN)
COLUMNS = [column.name for column in AuditRow.__table__.columns]


@contextmanager
def chain(n: int) -> Iterator[Database]:
    """A database with n honest entries."""
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    with database.writing() as session:
        for i in range(n):
            who = PEOPLE[i % 3].account
            part = {"proposal": f"P{i % 4}", "pid": f"test:P{i % 4}:s{i}", "because": "membership"}
            context = Context(about=who if i % 5 == 0 else None)
            record(
                session,
                "decision",
                "",
                NOW + timedelta(minutes=i),
                account=who,
                context=context,
                decision="granted",
                parts=[part],
                policy_version="t1",
            )
    yield database
    database.close()


def verdict(database: Database, expect: Mark | None = None) -> Verdict:
    with database.reading() as session:
        return verify(session, expect)


def how(database: Database, expect: Mark | None = None) -> tuple[int, str]:
    fault = verdict(database, expect).fault
    assert fault is not None
    return fault.seq, fault.how


def rows_of(database: Database) -> list[dict[str, Any]]:
    with database.reading() as session:
        return [
            dict(row)
            for row in session.execute(select(*AuditRow.__table__.columns).order_by(AuditRow.seq)).mappings()
        ]


def rewrite(database: Database, rows: list[dict[str, Any]], *, head: bool = True) -> None:
    """What somebody does who can write every table: the entries anew, and what belongs to them."""
    with database.writing() as session:
        session.execute(delete(AuditRow))
        session.execute(delete(AuditProposalRow))
        if rows:
            session.execute(insert(AuditRow), rows)
        pairs = [{"seq": row["seq"], "proposal": name} for row in rows for name in row["proposals"]]
        if pairs:
            session.execute(insert(AuditProposalRow), pairs)
        if head and rows:
            session.execute(update(AuditHeadRow).values(seq=rows[-1]["seq"], digest=rows[-1]["digest"]))


def another(value: Any, column: str) -> Any:
    """A value that is not this one and fits the column."""
    if column == "at":
        return value + timedelta(microseconds=1)
    if column == "detail":
        return value | {"decision": "embargoed"}
    if column == "proposals":
        return [*value, "XX-9"]
    if column == "seq":
        return value + 1_000
    if column in ("previous", "digest", "actor"):
        return ("f" if value[0] != "f" else "e") + value[1:]
    return "changed" if value != "changed" else "changed again"


@given(n=st.integers(0, 12))
def test_an_honest_chain_verifies(n: int) -> None:
    with chain(n) as database:
        found = verdict(database)
        assert found.fault is None
        assert (found.n_entries, found.last) == (n, n)
        assert verdict(database, found.head).fault is None


@given(n=st.integers(2, 8), data=st.data())
def test_a_change_of_any_column_of_any_entry_is_found(n: int, data: st.DataObject) -> None:
    seq, column = data.draw(st.integers(1, n)), data.draw(st.sampled_from(COLUMNS))
    with chain(n) as database:
        with database.writing() as session:
            row = session.get_one(AuditRow, seq)
            value = another(getattr(row, column), column)
            session.execute(update(AuditRow).where(AuditRow.seq == seq).values({column: value}))
        at, kind = how(database)
        if column == "seq":
            assert (at, kind) == ((seq, "missing") if seq < n else (n + 1_000, "inserted"))
        else:
            assert (at, kind) == (seq, "changed")


@given(n=st.integers(2, 8), data=st.data())
def test_a_change_with_a_digest_to_fit_is_found(n: int, data: st.DataObject) -> None:
    seq = data.draw(st.integers(1, n))
    column = data.draw(st.sampled_from([c for c in COLUMNS if c not in ("digest", "seq", "previous")]))
    with chain(n) as database:
        rows = rows_of(database)
        rows[seq - 1][column] = another(rows[seq - 1][column], column)
        rows[seq - 1]["digest"] = entry_digest(_Entry(rows[seq - 1]))
        rewrite(database, rows, head=False)
        assert how(database) == (seq, "changed")


@given(n=st.integers(2, 8), data=st.data(), renumber=st.booleans())
def test_a_missing_entry_is_found(n: int, data: st.DataObject, renumber: bool) -> None:
    seq = data.draw(st.integers(1, n - 1))
    with chain(n) as database:
        rows = rows_of(database)
        del rows[seq - 1]
        if renumber:
            rows = [row | {"seq": i} for i, row in enumerate(rows, 1)]
        rewrite(database, rows)
        assert how(database) == (seq, "missing")


@given(n=st.integers(2, 8), data=st.data())
def test_two_entries_that_changed_places_are_found(n: int, data: st.DataObject) -> None:
    one = data.draw(st.integers(1, n - 1))
    other = data.draw(st.integers(one + 1, n))
    with chain(n) as database:
        rows = rows_of(database)
        rows[one - 1], rows[other - 1] = rows[other - 1] | {"seq": one}, rows[one - 1] | {"seq": other}
        rewrite(database, rows, head=False)
        assert how(database) == (one, "reordered")


@given(n=st.integers(1, 8), data=st.data(), fits=st.booleans())
def test_an_entry_put_between_others_is_found(n: int, data: st.DataObject, fits: bool) -> None:
    seq = data.draw(st.integers(1, n))
    with chain(n) as database:
        rows = rows_of(database)
        new = rows[seq - 1] | {"subject": "forged"}
        if fits:
            new["digest"] = entry_digest(_Entry(new))
        rows = [*rows[: seq - 1], new, *({**row, "seq": row["seq"] + 1} for row in rows[seq - 1 :])]
        rewrite(database, rows)
        assert how(database) == (seq, "inserted")


@given(n=st.integers(2, 8), data=st.data())
def test_a_chain_cut_at_its_end_is_found_by_its_head_or_by_a_kept_mark(n: int, data: st.DataObject) -> None:
    left = data.draw(st.integers(1, n - 1))
    with chain(n) as database:
        kept = verdict(database).head
        rows = rows_of(database)[:left]
        rewrite(database, rows, head=False)
        assert how(database) == (left + 1, "cut")
        rewrite(database, rows)
        assert verdict(database).fault is None  # nobody sees it without the mark
        assert how(database, kept) == (left + 1, "cut")


@given(n=st.integers(2, 8), data=st.data())
def test_a_chain_made_anew_from_some_entry_on_is_found_by_a_kept_mark(n: int, data: st.DataObject) -> None:
    seq = data.draw(st.integers(1, n))
    with chain(n) as database:
        kept = verdict(database).head
        rows = rows_of(database)
        rows[seq - 1]["subject"] = "forged"
        for i in range(seq - 1, n):
            rows[i]["previous"] = rows[i - 1]["digest"] if i else "0" * 64
            rows[i]["digest"] = entry_digest(_Entry(rows[i]))
        rewrite(database, rows)
        assert verdict(database).fault is None
        assert how(database, kept) == (n, "changed")


def test_entries_behind_the_head_are_found() -> None:
    with chain(3) as database:
        rows = rows_of(database)
        new = rows[2] | {"seq": 4, "previous": rows[2]["digest"]}
        rewrite(database, [*rows, new | {"digest": entry_digest(_Entry(new))}], head=False)
        assert how(database) == (4, "inserted")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET detail = '{broken' WHERE seq = 3",
        "UPDATE audit SET at = 'never' WHERE seq = 3",
    ],
)
def test_a_value_that_cannot_be_read_is_a_change(change: str) -> None:
    with chain(4) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(change)
        assert how(database) == (3, "changed")


def test_the_index_by_proposal_hides_and_invents_nothing() -> None:
    for statement in (
        "DELETE FROM audit_proposals WHERE seq = 2",
        "UPDATE audit_proposals SET proposal = 'other' WHERE seq = 2",
        "INSERT INTO audit_proposals (seq, proposal) VALUES (2, 'other')",
    ):
        with chain(4) as database:
            with database.engine.begin() as connection:
                connection.exec_driver_sql(statement)
            assert how(database) == (2, "index")
    with chain(4) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO audit_proposals (seq, proposal) VALUES (9, 'other')")
        assert how(database) == (9, "index")


def test_nobody_can_be_put_in_anothers_place() -> None:
    with chain(4) as database:
        with database.writing() as session:
            ines = find_pseudonym(session, "person", INES.account)
            session.execute(
                update(AuditActorRow).where(AuditActorRow.actor == ines).values(name="u-" + "a" * 26)
            )
        assert how(database) == (0, "actor")


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM audit_actors", "UPDATE audit_actors SET name = NULL, salt = NULL, erased_by = 2"],
)
def test_nobody_vanishes_without_an_erasure(statement: str) -> None:
    with chain(4) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(statement)
        assert how(database)[1] == "actor"


def test_what_fails_takes_its_entry_back_and_leaves_no_gap() -> None:
    with chain(2) as database:
        with pytest.raises(ZeroDivisionError), database.writing() as session:
            record(session, "account_ended", "", NOW, context=Context(about=INES.account))
            session.flush()
            raise ZeroDivisionError
        with database.writing() as session:
            record(session, "account_ended", "", NOW, context=Context(about=INES.account))
        assert verdict(database).fault is None
        assert verdict(database).last == 3
        with database.reading() as session:
            assert head_of(session).seq == 3


def test_no_entry_names_a_person_in_what_is_hashed() -> None:
    with chain(9) as database:
        text = str(rows_of(database))
    assert not any(word in text for p in PEOPLE for word in (p.account, p.display_name))


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("no_such_kind", {}),
        ("login", {"note": "x"}),
        ("login", {"issuer": "https://user@host"}),
        ("login", {"issuer": "not a url"}),
        ("decision", {"decision": "perhaps"}),
        ("admin_act", {"code": "Ines did it"}),
        ("admin_act", {"code": "x" * 41}),
        ("state", {"state": "dead"}),
        ("plan", {"plan_hash": "short"}),
        ("decision", {"decision": "granted", "parts": [{"proposal": "P", "token": "x"}]}),
    ],
)
def test_only_what_a_kind_knows_can_be_written(kind: str, detail: dict[str, Any]) -> None:
    with chain(1) as database:
        with pytest.raises(NotRecordable, match=kind), database.writing() as session:
            record(session, kind, "", NOW, **detail)
        assert verdict(database).last == 1


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJpbmVzIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "secret", [JWT, f"Bearer {JWT}", INES.account, "ines@home.example", "0000-0002-1825-0097"]
)
def test_a_name_of_data_that_looks_like_a_person_or_a_token_is_not_kept(secret: str) -> None:
    part = {"proposal": "P1", "pid": f"test:P1:{secret}", "pool": "pool", "path": f"P1/raw/{secret}"}
    with chain(0) as database:
        with database.writing() as session:
            record(session, "decision", f"test:P1:{secret}", NOW, decision="granted", parts=[part])
        [row] = rows_of(database)
        assert secret not in str(row)
        assert row["proposals"] == ["P1"]
        assert verdict(database).fault is None


def test_every_kind_has_a_model_that_takes_no_unknown_field() -> None:
    for kind, model in KINDS.items():
        assert len(kind) <= 40
        assert model.model_config["extra"] == "forbid"


class _Entry:
    """The columns of an entry as attributes."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.__dict__.update(row)
        self.seq: Any
        self.at: Any
        self.kind: Any
        self.actor_kind: Any
        self.actor: Any
        self.about: Any
        self.subject: Any
        self.detail: Any
        self.proposals: Any
        self.reference: Any
        self.previous: Any
