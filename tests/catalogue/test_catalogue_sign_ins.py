"""Identities that sign in as another account: linked, unlinked, refused, and what that does to rights."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from beamhub_catalogue.account_erasure import erase, found_in
from beamhub_catalogue.account_export import build_export
from beamhub_catalogue.audit import Context
from beamhub_catalogue.audit_chain import verify
from beamhub_catalogue.linked_people import accounts_of, link, unlink
from beamhub_catalogue.models import AuditRow, IdentityRow
from beamhub_catalogue.named_people import named_person
from beamhub_catalogue.people import find_principal, readers_of
from beamhub_catalogue.sign_ins import LinkRefused, link_identity, sign_in_answer, unlink_identity
from beamhub_core.identity import Identity, Principal, account_name
from beamhub_core.linked_identity import MAX_LINKED, IdentityAnswer, IdentityToLink
from catalogue.catalogue_api_parts import RAW, Stocked
from catalogue.catalogue_parts import ISSUER, MEMBERS, NOW, TOKENS, person, session_plan

OTHER = "https://other.example"
ORCID = "0000-0001-5109-3700"


def somebody(subject: str, *proposals: str, issuer: str = ISSUER, **facts: Any) -> Principal:
    words = person(subject, *proposals).model_dump(mode="json")
    return Principal.model_validate(
        words | {"issuer": issuer, "account": account_name(issuer, subject)} | facts
    )


def with_linked(who: Principal, *others: Principal) -> Principal:
    """What the hub says of an account once identities sign in as it."""
    linked = tuple(Identity(issuer=one.issuer, subject=one.subject) for one in others)
    return who.model_copy(update={"linked": linked})


def to_link(who: Principal, to: Principal) -> IdentityToLink:
    return IdentityToLink(issuer=who.issuer, subject=who.subject, signs_in_as=to.account)


def put(stocked: Stocked, who: Principal, to: Principal) -> tuple[int, str]:
    """The status, and the reason where it is refused."""
    answer = stocked.api.ask("PUT", f"/identities/{who.account}", to_link(who, to))
    told = answer.json() if answer.content else {}
    return answer.status_code, told.get("refusal", {}).get("reason", "")


def ask(stocked: Stocked, who: Principal) -> IdentityAnswer:
    answer = stocked.api.ask("GET", f"/identities/{who.account}")
    assert answer.status_code == 200
    return IdentityAnswer.model_validate_json(answer.content)


def drop(stocked: Stocked, who: Principal) -> int:
    return stocked.api.ask("DELETE", f"/identities/{who.account}").status_code


def told(stocked: Stocked, kind: str) -> list[dict[str, Any]]:
    with stocked.service.database.reading() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.kind == kind).order_by(AuditRow.seq))
        return [row.detail for row in rows]


def family(stocked: Stocked, who: Principal) -> set[str]:
    with stocked.service.database.reading() as session:
        return set(accounts_of(session, who.account))


def places(stocked: Stocked, who: Principal) -> set[str]:
    """The proposals to which a membership lets the person."""
    with stocked.service.desk.reading(who) as catalogue:
        judge = catalogue.judge
        return {p for p in ("MA-2", "TO-3") if judge.on_proposal(p).because == "membership"}


A, B, C = somebody("zb-one"), somebody("zb-two", issuer=OTHER), somebody("zb-three", issuer=OTHER)


class TestLinking:
    """One identity signs in as another account."""

    def test_an_unknown_identity_signs_in_as_itself(self, stocked: Stocked) -> None:
        assert ask(stocked, A) == IdentityAnswer(account=A.account, signs_in_as=A.account, identity=None)

    @pytest.mark.parametrize("had_an_account", [False, True])
    def test_a_linked_identity_signs_in_as_the_other_account_and_is_the_same_person(
        self, stocked: Stocked, had_an_account: bool
    ) -> None:
        stocked.api.push(A, *([B] if had_an_account else []))
        assert put(stocked, B, A) == put(stocked, B, A) == (204, "")
        of_a, of_b = ask(stocked, A), ask(stocked, B)
        assert (of_a.account, of_b.account) == (A.account, B.account)
        assert of_a.signs_in_as == of_b.signs_in_as == A.account
        assert of_a.identity == of_b.identity == Identity(issuer=A.issuer, subject=A.subject)
        assert of_a.linked == of_b.linked
        (linked,) = of_a.linked
        assert (linked.issuer, linked.subject, linked.account) == (OTHER, "zb-two", B.account)
        assert linked.linked_at == NOW
        assert family(stocked, A) == {A.account, B.account}
        assert [detail["by"] for detail in told(stocked, "identity_linked")] == ["self"]
        with stocked.service.database.reading() as session:
            assert find_principal(session, B.account) is None
        with stocked.service.database.reading() as session:
            assert verify(session).fault is None

    @pytest.mark.parametrize("had_an_account", [False, True])
    def test_an_unlinked_identity_is_a_person_of_its_own_again(
        self, stocked: Stocked, had_an_account: bool
    ) -> None:
        stocked.api.push(A, *([B] if had_an_account else []))
        put(stocked, B, A)
        assert drop(stocked, B) == drop(stocked, B) == 204
        assert ask(stocked, A).linked == ()
        assert ask(stocked, B).signs_in_as == B.account
        assert family(stocked, B) == {B.account}
        assert [detail["by"] for detail in told(stocked, "identity_unlinked")] == ["self"]
        assert put(stocked, B, A) == (204, "")

    def test_an_identity_with_the_same_orcid_stays_the_same_person_when_it_is_unlinked(
        self, stocked: Stocked
    ) -> None:
        one, other = somebody("zb-one", orcid=ORCID), somebody("zb-two", issuer=OTHER, orcid=ORCID)
        stocked.api.push(one, other)
        put(stocked, other, one)
        drop(stocked, other)
        assert family(stocked, one) == {one.account, other.account}

    def test_a_name_in_the_address_that_is_not_the_identitys_is_refused(self, stocked: Stocked) -> None:
        stocked.api.push(A)
        answer = stocked.api.ask("PUT", f"/identities/{C.account}", to_link(B, A))
        assert answer.status_code == 422

    def test_only_a_client_that_tells_of_people_may_ask(self, stocked: Stocked) -> None:
        for method, body in (("GET", None), ("PUT", to_link(B, A)), ("DELETE", None)):
            answer = stocked.api.ask(method, f"/identities/{B.account}", body, TOKENS["reader"])
            assert answer.status_code == 403

    def test_an_operator_who_parts_two_people_ends_the_link(self, stocked: Stocked) -> None:
        stocked.api.push(A, B)
        put(stocked, B, A)
        with stocked.service.database.writing() as session:
            unlink(session, A.account, NOW, Context(operator="root"))
        assert ask(stocked, B).signs_in_as == B.account


class TestRefusals:
    """What cannot be linked, and why."""

    def test_nobody_links_to_an_account_that_nobody_has(self, stocked: Stocked) -> None:
        assert put(stocked, B, A)[0] == 404

    def test_an_identity_is_not_linked_to_itself(self, stocked: Stocked) -> None:
        stocked.api.push(A)
        status, reason = put(stocked, A, A)
        assert status == 409
        assert "own already" in reason

    def test_links_make_no_chain(self, stocked: Stocked) -> None:
        stocked.api.push(A, B, C)
        put(stocked, B, A)
        onto_linked, linked_elsewhere, holder = put(stocked, C, B), put(stocked, B, C), put(stocked, A, C)
        assert [status for status, _ in (onto_linked, linked_elsewhere, holder)] == [409] * 3
        assert "itself linked" in onto_linked[1]
        assert "linked to another account" in linked_elsewhere[1]
        assert "linked to this one" in holder[1]

    def test_an_account_whose_sessions_run_is_not_linked_away(self, stocked: Stocked) -> None:
        stocked.api.push(A, B)
        plan = session_plan(stocked.facility, B)
        stocked.api.running(plan)
        status, reason = put(stocked, B, A)
        assert (status, "still run" in reason) == (409, True)
        assert stocked.api.update(plan, state="ended").status_code == 204
        assert put(stocked, B, A) == (204, "")

    def test_no_more_identities_than_the_hub_can_tell_of(self, stocked: Stocked) -> None:
        stocked.api.push(A)
        many = [somebody(f"zb-{i}", issuer=OTHER) for i in range(MAX_LINKED + 1)]
        statuses = [put(stocked, one, A)[0] for one in many]
        assert statuses == [204] * MAX_LINKED + [409]
        assert len(with_linked(A, *many[:MAX_LINKED]).identities) == MAX_LINKED + 1


class TestRights:
    """User offices name people by any of their identities."""

    def test_a_row_that_names_a_linked_identity_is_the_accounts(self, stocked: Stocked) -> None:
        stocked.facility.write_office(
            members=(*MEMBERS, f"MA-2,{OTHER},zb-two,,,Zoe,member,,", f"TO-3,{OTHER},zb-one,,,Yan,member,,")
        )
        stocked.service.rules.refresh()
        assert places(stocked, A) == set()
        assert places(stocked, with_linked(A, B)) == {"MA-2"}
        assert places(stocked, with_linked(A, C, B)) == {"MA-2"}
        # The subject of one identity with the issuer of another is a third person.
        assert places(stocked, with_linked(A, C)) == set()

    def test_an_unlinked_identity_gives_nothing_before_the_hub_speaks_again(self, stocked: Stocked) -> None:
        stocked.facility.write_office(members=(f"MA-2,{OTHER},zb-two,,,Zoe,member,,",))
        stocked.service.rules.refresh()
        stocked.api.push(A)
        put(stocked, B, A)
        stocked.api.push(with_linked(A, B))
        assert stocked.api.grants(A, RAW).status_code == 200
        drop(stocked, B)
        assert stocked.api.grants(A, RAW).status_code == 403

    def test_linking_does_not_bring_back_what_an_identity_lost(self, stocked: Stocked) -> None:
        stocked.facility.write_office(members=(f"MA-2,{ISSUER},zb-two,,,Zoe,member,,",))
        stocked.service.rules.refresh()
        lost = somebody("zb-two")
        stocked.api.push(A, somebody("zb-two", "MA-2"), lost)
        put(stocked, lost, A)
        both = with_linked(A, lost)
        assert places(stocked, both) == set()
        stocked.api.push(with_linked(somebody("zb-one", "MA-2"), lost))
        assert places(stocked, with_linked(somebody("zb-one", "MA-2"), lost)) == {"MA-2"}

    def test_many_people_with_many_identities_are_asked_in_parts(self, stocked: Stocked) -> None:
        office = tuple(f"MA-2,{OTHER},p{i}-15,,,Name,member,," for i in range(200))
        stocked.facility.write_office(members=office)
        stocked.service.rules.refresh()
        people = [
            with_linked(somebody(f"p{i}"), *(somebody(f"p{i}-{n}", issuer=OTHER) for n in range(1, 16)))
            for i in range(200)
        ]
        with stocked.service.database.reading() as session:
            readers = readers_of(session, people, stocked.service.config.login, NOW)
        assert all(readers[who.account].proposals_at(NOW) == ["MA-2"] for who in people)


class TestPerson:
    """What is stored of a link is the person's: exported, erased, and found by name."""

    def test_export_and_erasure_know_of_the_link(self, stocked: Stocked) -> None:
        stocked.api.push(A, B)
        put(stocked, B, A)
        stocked.api.push(with_linked(A, B))
        database = stocked.service.database
        with database.reading() as session:
            exported = json.dumps(build_export(session, stocked.service.desk, B.account), default=str)
        assert f'"signs_in_as": "{A.account}"' in exported
        done = erase(database, B.account, NOW, "root")
        assert set(done.accounts) == {A.account, B.account}
        assert done.kept == []
        with database.reading() as session:
            assert found_in(session, frozenset((A.account, B.account, "zb-two"))) == []
        assert ask(stocked, B).signs_in_as == B.account

    def test_an_operator_who_names_a_linked_identity_means_the_account(self, stocked: Stocked) -> None:
        stocked.api.push(A)
        put(stocked, B, A)
        with stocked.service.database.reading() as session:
            found = named_person(session, stocked.service.config.login, (OTHER, "zb-two"))
        assert found.account == A.account


STEPS = st.lists(
    st.tuples(st.sampled_from(("link", "unlink", "join", "part")), st.integers(0, 4), st.integers(0, 4)),
    max_size=25,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_whatever_is_linked_and_parted_links_stay_within_one_person_and_one_step_long(
    stocked: Stocked, steps: list[tuple[str, int, int]]
) -> None:
    people = [somebody(f"law-{i}") for i in range(5)]
    stocked.api.push(*people)
    operator = Context(operator="root")
    with stocked.service.database.trying() as session:
        for verb, i, k in steps:
            one, other = people[i], people[k]
            if verb == "link":
                try:
                    link_identity(session, to_link(one, other), NOW, NOW)
                    assert sign_in_answer(session, one.account).signs_in_as == other.account
                except LinkRefused:
                    pass  # whether it had to be is what the other tests say
            elif verb == "unlink":
                unlink_identity(session, one.account, NOW)
                assert sign_in_answer(session, one.account).signs_in_as == one.account
            elif verb == "join" and i != k:
                link(session, one.account, other.account, NOW, operator)
            elif verb == "part":
                unlink(session, one.account, NOW, operator)
            rows = {row.account: row for row in session.scalars(select(IdentityRow))}
            for row in rows.values():
                if row.signs_in_as is not None:
                    target = rows[row.signs_in_as]
                    assert (target.signs_in_as, target.person_id) == (None, row.person_id)


class TestUnheard:
    """Groups of an identity whose provider did not answer for too long."""

    def test_what_was_not_heard_of_is_not_lost_until_it_is_gone(self, stocked: Stocked) -> None:
        stocked.facility.write_office(members=(f"MA-2,{ISSUER},zb-one,,,Zoe,member,,",))
        stocked.service.rules.refresh()
        both = with_linked(somebody("zb-one", "MA-2"), B)
        stocked.api.push(both)
        unheard = later(both, 5, entitlements=(), unheard=both.entitlements)
        stocked.api.push(unheard)
        assert places(stocked, unheard) == {"MA-2"}
        gone = later(both, 10, entitlements=())
        stocked.api.push(gone)
        assert places(stocked, gone) == set()


def later(who: Principal, minutes: int, **said: Any) -> Principal:
    """What the hub says of a person some minutes after."""
    return who.model_copy(update={**said, "checked_at": who.checked_at + timedelta(minutes=minutes)})
