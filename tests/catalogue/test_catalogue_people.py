"""People: what the hub pushes, what the user office says, and how both become memberships."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import MemberRow
from beamhub_catalogue.people import (
    as_of_now,
    find_principal,
    join_memberships,
    remove_principal,
    store_principal,
    team_names,
)
from beamhub_core.config.login import LoginConfig
from beamhub_core.entitled_proposals import entitled_roles
from beamhub_core.identity import Capability, Entitlement, FacilityRole, Principal
from beamhub_core.rights import ProposalRole
from catalogue.catalogue_parts import INES, ISSUER, MEMBERS, NAMESPACE, NOW, SAM, Facility, person

HOUR = timedelta(hours=1)
ROLES: tuple[ProposalRole, ...] = get_args(ProposalRole)
CAPABILITY = Capability(namespace=NAMESPACE, resource="vm", actions=("use",), authority="as.example")


def entitled(who: Principal, *rows: tuple[str, str | None], namespace: str = NAMESPACE) -> Principal:
    found = tuple(
        Entitlement(namespace=namespace, group="proposals", subgroups=(proposal,), role=role)
        for proposal, role in rows
    )
    return who.model_copy(update={"entitlements": found})


def push(service: CatalogueService, who: Principal) -> bool:
    with service.database.writing() as session:
        return store_principal(session, who, service.config.login, NOW)


def places(service: CatalogueService, who: Principal) -> dict[str, str]:
    """The person's role and its sources by proposal, for those to which a membership lets them."""
    found = {}
    with service.desk.reading(who) as catalogue:
        for proposal in ("OP-1", "MA-2", "TO-3", "MA-20", "ma-2"):
            decision = catalogue.judge.on_proposal(proposal)
            if decision.because == "membership":
                found[proposal] = decision.detail.replace(f" of {proposal}", "")
    return found


def office_row(proposal: str, subject: str, role: str = "member", until: str = "") -> str:
    return f"{proposal},{ISSUER},{subject},,,Name,{role},,{until}"


class TestJoin:
    """Who a row of the user office means."""

    def test_each_identity_joins_by_itself(self, facility: Facility, service: CatalogueService) -> None:
        facility.write_office(
            members=(
                office_row("OP-1", "nina"),
                "MA-2,,,0000-0002-1825-0097,,Nina,pi,,",
                "TO-3,,,,nlindt,Nina,local_contact,,",
            )
        )
        nina = person("nina", orcid="0000-0002-1825-0097").model_copy(update={"facility_account": "nlindt"})
        office = "(user_office:office)"
        expected = {"OP-1": f"member {office}", "MA-2": f"pi {office}", "TO-3": f"local_contact {office}"}
        assert places(service, nina) == expected
        assert places(service, person("nina")) == {"OP-1": f"member {office}"}
        assert places(service, person("mallory")) == {}

    def test_a_person_without_an_identity_is_not_joined_to_rows_that_lack_it(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        facility.write_office(members=(office_row("MA-2", "nina"),))
        assert places(service, person("mallory")) == {}

    @pytest.mark.parametrize("subject", ["Ines", "INES", " ines", "ines ", "ines\u00a0", "ine", "ines\u0301"])
    def test_another_subject_is_another_person(self, service: CatalogueService, subject: str) -> None:
        assert places(service, person(subject)) == {}

    @pytest.mark.parametrize("issuer", [ISSUER + "/", ISSUER.upper(), "https://other.example/oidc", ""])
    def test_the_same_subject_of_another_issuer_is_another_person(
        self, service: CatalogueService, issuer: str
    ) -> None:
        assert places(service, INES.model_copy(update={"issuer": issuer})) == {}

    @pytest.mark.parametrize("account", ["NLINDT", "nlindt ", "nlind", "nlindt2", "nlind_", "%"])
    def test_another_facility_account_is_another_person(
        self, facility: Facility, service: CatalogueService, account: str
    ) -> None:
        facility.write_office(members=("MA-2,,,,nlindt,Nina,member,,",))
        mallory = person("mallory").model_copy(update={"facility_account": account})
        assert places(service, mallory) == {}

    @pytest.mark.parametrize("row", [office_row("MA-2", "ines "), office_row("MA-2", " ines")])
    def test_a_row_with_blanks_around_a_subject_is_nobodys(
        self, facility: Facility, service: CatalogueService, row: str
    ) -> None:
        facility.write_office(members=(row,))
        assert places(service, INES) == {}
        assert places(service, person("ines ")) == {}
        assert "begins or ends with a space" in service.health().problems[0].reason

    def test_names_of_proposals_are_compared_whole(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        facility.write_office(members=(office_row("MA-20", "nina"), office_row("ma-2", "nina")))
        assert places(service, person("nina")).keys() == {"MA-20", "ma-2"}


class TestUnion:
    """Both sources together."""

    @pytest.mark.parametrize(
        ("office", "entitlement", "expected"),
        [
            ("member", "pi", "pi (entitlement, user_office:office)"),
            ("pi", "member", "pi (user_office:office, entitlement)"),
            ("local_contact", None, "member (entitlement, user_office:office)"),
            ("local_contact", "surprise", "local_contact (user_office:office)"),
        ],
    )
    def test_the_strongest_role_counts(
        self,
        facility: Facility,
        service: CatalogueService,
        office: str,
        entitlement: str | None,
        expected: str,
    ) -> None:
        facility.write_office(members=(office_row("MA-2", "nina", office),))
        nina = entitled(person("nina"), ("MA-2", entitlement))
        push(service, nina)
        assert places(service, nina) == {"MA-2": expected}

    def test_a_row_taken_out_of_the_office_ends_the_right_that_an_entitlement_gave_too(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        ines = entitled(INES, ("MA-2", "pi"))
        push(service, ines)
        facility.write_office(members=MEMBERS[1:])
        assert places(service, ines).keys() == {"TO-3"}
        facility.write_office()
        assert places(service, ines).keys() == {"MA-2", "TO-3"}

    def test_a_row_that_ended_ends_the_right_that_an_entitlement_gave_too(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        facility.write_office(members=(office_row("MA-2", "nina", until="2026-05-31"),))
        assert places(service, entitled(person("nina"), ("MA-2", "pi"))) == {}

    def test_a_row_that_only_gained_an_identity_was_not_removed(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        ines = entitled(INES, ("MA-2", "member"))
        facility.write_office(members=(MEMBERS[0].replace(",ines,,", ",ines,0000-0002-1825-0097,"),))
        assert places(service, ines) == {"MA-2": "pi (user_office:office, entitlement)"}

    def test_a_lost_entitlement_ends_the_right_that_the_office_gave_too(
        self, service: CatalogueService
    ) -> None:
        push(service, entitled(INES, ("MA-2", None)))
        without = entitled(INES.model_copy(update={"checked_at": NOW + HOUR}))
        push(service, without)
        assert places(service, without).keys() == {"TO-3"}
        again = entitled(INES.model_copy(update={"checked_at": NOW + 2 * HOUR}), ("MA-2", None))
        push(service, again)
        assert places(service, again).keys() == {"MA-2", "TO-3"}

    def test_who_never_had_an_entitlement_lost_none(self, service: CatalogueService) -> None:
        push(service, INES)
        push(service, INES.model_copy(update={"checked_at": NOW + HOUR}))
        assert places(service, INES).keys() == {"MA-2", "TO-3"}

    def test_one_persons_loss_is_not_anothers(self, service: CatalogueService) -> None:
        nina = entitled(person("nina"), ("MA-2", None))
        push(service, nina)
        push(service, entitled(nina.model_copy(update={"checked_at": NOW + HOUR})))
        assert places(service, INES).keys() == {"MA-2", "TO-3"}
        assert places(service, entitled(person("Nina"), ("MA-2", None))).keys() == {"MA-2"}

    @pytest.mark.parametrize(
        "changes",
        [
            {"namespace": "urn:geant:evil.example"},
            {"namespace": NAMESPACE.upper()},
            {"group": "Proposals"},
            {"subgroups": ()},
            {"subgroups": ("MA-2", "team")},
            {"role": "PI"},
            {"role": ""},
        ],
    )
    def test_an_entitlement_that_is_not_just_so_gives_nothing(
        self, service: CatalogueService, changes: dict[str, object]
    ) -> None:
        told = {"namespace": NAMESPACE, "group": "proposals", "subgroups": ("MA-2",), "role": "member"}
        odd = Entitlement.model_validate(told | changes)
        mallory = person("mallory").model_copy(update={"entitlements": (odd,)})
        assert places(service, mallory) == {}


class TestPrincipals:
    """What the hub pushes."""

    def test_an_older_push_does_not_undo_a_newer_one(self, service: CatalogueService) -> None:
        nina = person("nina", "MA-2")
        assert push(service, nina)
        assert not push(service, person("nina", "TO-3", checked_at=NOW - HOUR))
        assert push(service, nina)
        assert service.principal(nina.account) == nina

    def test_a_removed_account_is_unknown_until_something_newer_is_pushed(
        self, service: CatalogueService
    ) -> None:
        nina = person("nina", "MA-2")
        push(service, nina)
        with service.database.writing() as session:
            assert remove_principal(session, nina.account, NOW + HOUR)
            assert not remove_principal(session, person("other").account, NOW)
        assert service.principal(nina.account) is None
        assert not push(service, nina)
        assert service.principal(nina.account) is None
        assert push(service, nina.model_copy(update={"checked_at": NOW + 2 * HOUR}))
        assert service.principal(nina.account) is not None

    def test_what_the_provider_said_too_long_ago_counts_no_more_but_the_office_does(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        facility.write_office(members=(office_row("OP-1", "nina"),))
        grace = timedelta(hours=service.config.login.grace_h)
        nina = person("nina", "MA-2", role="instrument_scientist")
        facility.wall_clock.now = NOW + grace
        with service.desk.reading(nina) as catalogue:
            assert catalogue.judge.on_proposal("TO-3").may_read
        assert places(service, nina).keys() == {"OP-1", "MA-2"}
        facility.wall_clock.now = NOW + grace + timedelta(seconds=1)
        with service.desk.reading(nina) as catalogue:
            assert not catalogue.judge.on_proposal("TO-3").may_read
        assert places(service, nina).keys() == {"OP-1"}

    def test_a_shifted_present_makes_nobody_stale(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        facility.clock.now = NOW + timedelta(days=400)
        assert places(service, person("nina", "MA-2")).keys() == {"MA-2"}

    def test_staleness_is_no_loss(self, facility: Facility, service: CatalogueService) -> None:
        ines = entitled(INES, ("MA-2", None))
        push(service, ines)
        facility.wall_clock.now = NOW + timedelta(days=300)
        assert places(service, ines).keys() == {"MA-2", "TO-3"}
        fresh = ines.model_copy(update={"checked_at": facility.wall_clock.now})
        push(service, fresh)
        assert places(service, fresh)["MA-2"] == "pi (user_office:office, entitlement)"

    def test_nobody_is_found_by_another_spelling_of_the_account(self, service: CatalogueService) -> None:
        push(service, SAM)
        with service.database.reading() as session:
            assert find_principal(session, SAM.account) == SAM
            assert find_principal(session, SAM.account.upper()) is None
            assert find_principal(session, SAM.account + " ") is None


def test_a_team_is_named_principal_investigator_first_and_without_who_left(
    facility: Facility, service: CatalogueService
) -> None:
    rows = [office_row("MA-2", s, r) for s, r in (("a", "local_contact"), ("b", "member"), ("c", "pi"))]
    named = [row.replace(",Name,", f",{name},") for row, name in zip(rows, ("Ada", "Bo", "Cy"), strict=True)]
    facility.write_office(members=tuple(named))
    service.health()
    with service.database.reading() as session:
        assert team_names(session, "MA-2") == ("Cy", "Bo", "Ada")
    facility.write_office(members=tuple(named[:2]))
    service.health()
    with service.database.reading() as session:
        assert team_names(session, "MA-2") == ("Bo", "Ada")


def member_rows() -> st.SearchStrategy[list[MemberRow]]:
    instants = st.none() | st.integers(-3, 3).map(lambda hours: NOW + hours * HOUR)
    row = st.builds(
        MemberRow,
        source=st.just("user_office:office"),
        proposal=st.sampled_from(["P1", "P10", "p1"]),
        role=st.sampled_from(ROLES),
        since=instants,
        until=instants,
        removed_at=st.none() | st.just(NOW),
    )
    return st.lists(row, max_size=6)


@given(
    rows=member_rows(),
    entitlements=st.dictionaries(st.sampled_from(["P1", "P10"]), st.sampled_from(ROLES)),
    lost=st.sets(st.sampled_from(["P1", "P10"])),
)
def test_a_removal_in_either_place_ends_the_right_and_nothing_else_does(
    rows: list[MemberRow], entitlements: dict[str, ProposalRole], lost: set[str]
) -> None:
    who = person("nina")
    told = join_memberships(who, rows, entitlements, lost, NOW)
    for proposal in ("P1", "P10", "p1"):
        mine = [row for row in rows if row.proposal == proposal]
        standing = [r for r in mine if r.removed_at is None and (r.until is None or r.until > NOW)]
        found = [m for m in told if m.proposal == proposal]
        if proposal in lost or (mine and not standing):
            assert found == []
        else:
            present = [row for row in mine if row.removed_at is None]
            assert len(found) == len(present) + (proposal in entitlements)
    assert {m.account for m in told} <= {who.account}


@given(names=st.lists(st.tuples(st.sampled_from(["P1", "P10"]), st.sampled_from(["pi", "member", None]))))
def test_the_order_of_entitlements_does_not_matter(
    names: list[tuple[str, str | None]],
) -> None:
    login = LoginConfig.model_validate(
        {
            "providers": [
                {
                    "name": "p",
                    "title": "P",
                    "issuer": ISSUER,
                    "client_id": "c",
                    "client_secret_file": "/secret",
                    "entitlement_namespaces": [NAMESPACE],
                }
            ]
        }
    )
    one, other = (entitled(person("nina"), *rows) for rows in (names, reversed(names)))
    expected = {p: "pi" if (p, "pi") in names else "member" for p, _ in names}
    assert entitled_roles(one, login) == entitled_roles(other, login) == expected


@pytest.mark.parametrize("role", get_args(FacilityRole))
def test_what_a_provider_said_too_long_ago_gives_no_right_and_a_guest_stays_a_guest(
    role: FacilityRole,
) -> None:
    provider = {
        "name": "p",
        "title": "P",
        "issuer": ISSUER,
        "client_id": "c",
        "client_secret_file": "/secret",
    }
    login = LoginConfig.model_validate({"providers": [provider], "grace_h": 1})
    who = person("gina", "MA-2", role=role).model_copy(
        update={"capabilities": (CAPABILITY,), "assurance": ("x",)}
    )
    assert as_of_now(who, login, NOW + HOUR) is who
    old = as_of_now(who, login, NOW + HOUR * 1.01)
    assert old is not None
    assert (old.entitlements, old.capabilities, old.assurance) == ((), (), ())
    assert old.roles == (("guest",) if role == "guest" else ())
