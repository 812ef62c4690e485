"""Who is admitted: by scope, organisation and assurance; and what the configuration makes of claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.provider import PRESETS, Preset
from beamhub_hub.assurance import IMPLIED, MAX_VALUES
from beamhub_hub.claim_values import MAX_GROUP_IDS, MAX_ID, MIN_ID
from hub.claims_parts import ISSUER, NAMESPACE, denial, principal, provider  # tests' folder

RAF = "https://refeds.org/assurance"
EGI = "https://aai.egi.eu/LoA#"
STAFF = f"{NAMESPACE}:group:staff"
SCOPES = {"id_scopes": ["Example.org", "aai.example.eu"]}


# -- identifiers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sub", "voperson_id"),
    [
        ("a@example.org", None),
        ("a@EXAMPLE.ORG", "a@example.org"),
        ("5f1c", "a@aai.example.eu"),  # INDIGO IAM
        ("a@b@example.org", None),
        ("a@example.org", ["a@example.org"]),
    ],
)
def test_an_identifier_of_an_allowed_scope_is_admitted(sub: str, voperson_id: object) -> None:
    assert principal({"sub": sub, "voperson_id": voperson_id}, **SCOPES).subject == sub


@pytest.mark.parametrize(
    ("sub", "voperson_id"),
    [
        ("a", None),
        ("a", "b"),
        ("a", 7),
        ("a@evil.org", None),
        ("a@example.org@evil.org", None),
        ("a@sub.example.org", None),
        ("a@example.org.", None),
        ("a@xexample.org", None),
        ("@example.org", None),
        ("a@", None),
        ("a@example.org", "a@evil.org"),
        ("a@evil.org", "a@example.org"),
        ("a", ["a@example.org", "a@evil.org"]),
        ("a", "a@example.org "),
        ("a", "a@\u212aexample.org"),
        ("a", {"a@example.org": "a@example.org"}),
    ],
)
def test_an_identifier_of_another_scope_or_none_is_denied(sub: str, voperson_id: object) -> None:
    assert denial({"sub": sub, "voperson_id": voperson_id}, **SCOPES) == "subject_scope"


def test_letters_that_only_python_calls_the_same_are_not() -> None:
    # The Kelvin sign, whose small letter is 'k'.
    assert denial({"sub": "a", "voperson_id": "a@\u212ait.edu"}, id_scopes=["kit.edu"]) == "subject_scope"


def test_without_scopes_in_the_configuration_any_will_do() -> None:
    assert principal({"sub": "a@anywhere.org"}).subject == "a@anywhere.org"


def test_the_configured_identifiers_are_the_ones_that_are_checked() -> None:
    changes = {**SCOPES, "claims": {"identifiers": ["community_id"]}}
    assert (
        principal({"sub": "a@evil.org", "community_id": "a@example.org"}, **changes).subject == "a@evil.org"
    )
    assert denial({"sub": "a@example.org"}, **changes) == "subject_scope"


@pytest.mark.parametrize("name", ["sub", "voperson_id", "community_id"])
@pytest.mark.parametrize("value", ["test@example.org", "TEST@anything", ["x", "test@example.org"]])
def test_a_monitoring_account_is_blocked_by_any_identifier(name: str, value: object) -> None:
    said: dict[str, object] = {"sub": "a", "community_id": "b"} | {name: value}
    if isinstance(said["sub"], str):
        assert denial(said, claims={"identifiers": ["community_id"]}) == "subject_blocked"
        assert principal(said, blocks_monitoring_accounts=False)


def test_a_blocked_identifier_is_blocked_whichever_claim_holds_it() -> None:
    changes = {"blocked_subjects": ["left"], "claims": {"identifiers": ["community_id"]}}
    assert denial({"sub": "left"}, **changes) == "subject_blocked"
    assert denial({"sub": "a", "voperson_id": "left"}, **changes) == "subject_blocked"
    assert denial({"sub": "a", "community_id": "left"}, **changes) == "subject_blocked"
    assert principal({"sub": "Left"}, **changes)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_admits_its_operators_scope_and_no_other(preset: Preset) -> None:
    scopes = provider(preset=preset, entitlement_namespaces=[]).id_scopes
    changes = {"preset": preset, "entitlement_namespaces": []}
    for scope in scopes:
        assert principal({"sub": f"a@{scope.upper()}"}, **changes)
        assert denial({"sub": f"a@{scope}.evil.org"}, **changes) == "subject_scope"
    assert bool(scopes) == (preset not in ("umbrella", "keycloak", "oidc"))


# -- home organisation --------------------------------------------------------------------------------


def test_only_people_of_the_allowed_organisations_are_admitted() -> None:
    changes = {"home_organisations": ["Example.org"]}
    assert principal({"sub": "a", "schac_home_organization": "example.ORG"}, **changes)
    said: list[object] = [None, "", "sub.example.org", "example.org\u200b", "example.org ", 7, {}]
    said += [["example.org", "evil.org"], [["example.org"]]]
    for value in said:
        assert denial({"sub": "a", "schac_home_organization": value}, **changes) == "organisation_not_allowed"


def test_the_home_organisation_stands_in_the_claim_that_the_configuration_names() -> None:
    found = principal({"sub": "a", "home": ["example.org"]}, claims={"home_organisation": "home"})
    assert found.home_organisation == "example.org"
    assert principal({"sub": "a", "schac_home_organization": ["a.org", "b.org"]}).home_organisation is None


# -- assurance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "needed", "is_met"),
    [
        (f"{RAF}/IAP/high", f"{RAF}/IAP/low", True),
        (f"{RAF}/IAP/low", f"{RAF}/IAP/medium", False),
        (f"{RAF}/IAP/local-enterprise", f"{RAF}/IAP/low", False),
        (f"{RAF}/IAP/high", f"{RAF}/IAP/local-enterprise", False),
        (f"{RAF}/ATP/ePA-1d", f"{RAF}/ATP/ePA-1m", True),
        (f"{RAF}/ATP/ePA-1m", f"{RAF}/ATP/ePA-1d", False),
        (f"{RAF}/profile/espresso", f"{RAF}/profile/cappuccino", True),
        (f"{RAF}/profile/espresso", f"{RAF}/IAP/low", True),
        (f"{RAF}/profile/cappuccino", f"{RAF}/ID/unique", True),
        (f"{RAF}/profile/cappuccino", f"{RAF}/IAP/high", False),
        (f"{RAF}/iap/high", f"{RAF}/IAP/high", False),
        (f"{RAF}/IAP/high/", f"{RAF}/IAP/high", False),
        (f"{EGI}High", f"{EGI}Low", True),
        (f"{EGI}Low", f"{EGI}Substantial", False),
        (f"{EGI}High", f"{RAF}/IAP/low", False),
        (None, f"{RAF}/IAP/low", False),
    ],
)
def test_an_assurance_implies_what_its_framework_says(sent: object, needed: str, is_met: bool) -> None:
    said: dict[str, object] = {"sub": "a", "eduperson_assurance": sent}
    if is_met:
        assert needed in principal(said, required_assurance=[needed]).assurance
    else:
        assert denial(said, required_assurance=[needed]) == "assurance_missing"


def test_parts_of_a_profile_do_not_make_the_profile() -> None:
    parts = [f"{RAF}/ID/unique", f"{RAF}/IAP/high", f"{RAF}/ATP/ePA-1d"]
    changes = {"required_assurance": [f"{RAF}/profile/cappuccino"]}
    assert denial({"sub": "a", "eduperson_assurance": parts}, **changes) == "assurance_missing"


def test_all_required_values_are_needed() -> None:
    changes = {"required_assurance": [f"{RAF}/IAP/low", f"{RAF}/ID/unique"]}
    said: dict[str, object] = {"sub": "a", "eduperson_assurance": [f"{RAF}/IAP/high"]}
    assert denial(said, **changes) == "assurance_missing"


def test_a_provider_has_an_order_of_its_own_also_a_round_one() -> None:
    implies = {"https://p/a": ["https://p/b"], "https://p/b": ["https://p/a", f"{RAF}/IAP/medium"]}
    changes = {"assurance_implies": implies, "claims": {"assurance": "loa"}}
    found = principal({"sub": "a", "loa": "https://p/a"}, **changes).assurance
    assert found == ("https://p/a", "https://p/b", f"{RAF}/IAP/low", f"{RAF}/IAP/medium")


values = st.lists(st.sampled_from([*IMPLIED, f"{RAF}/version/2", "https://unknown.example/x"]), max_size=6)


@given(values, values)
def test_assurance_is_a_closure(some: list[str], more: list[str]) -> None:
    def closure(sent: list[str]) -> set[str]:
        return set(principal({"sub": "a", "eduperson_assurance": list(sent)}).assurance)

    assert closure(some) >= set(some)
    assert closure(sorted(closure(some))) == closure(some)  # nothing more the second time
    assert closure(some + more) == closure(some) | closure(more)  # nothing follows from two together
    assert closure(some[::-1]) == closure(some)


def test_a_flood_of_unknown_values_hides_no_known_one() -> None:
    flood = [f"https://a.example/{i}" for i in range(5000)] + [f"{RAF}/IAP/high", "\x00", "", "x" * 301]
    found = principal({"sub": "a", "eduperson_assurance": flood}, required_assurance=[f"{RAF}/IAP/low"])
    assert len(found.assurance) <= MAX_VALUES + len(IMPLIED)


# -- names of claims, numbers -------------------------------------------------------------------------


def test_entitlements_stand_in_the_claims_that_the_configuration_names() -> None:
    said: dict[str, object] = {"sub": "a", "groups_eu": f"{STAFF}:x", "entitlements": f"{STAFF}:y"}
    found = principal(said, claims={"entitlements": ["groups_eu", "other"]})
    assert [item.subgroups for item in found.entitlements] == [("x",)]
    assert found.ignored_entitlements == 0


def test_capabilities_are_kept_apart_from_groups() -> None:
    found = principal({"sub": "a", "entitlements": [f"{NAMESPACE}:res:staff:act:use#x", STAFF]})
    assert [(item.resource, item.actions) for item in found.capabilities] == [("staff", ("use",))]
    assert [item.group for item in found.entitlements] == ["staff"]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (MIN_ID, MIN_ID),
        (str(MAX_ID), MAX_ID),
        (MIN_ID - 1, None),
        (MAX_ID + 1, None),
        (0, None),
        (-1, None),
        (65534, None),
        ("65535", None),
        (True, None),
        (5001.0, None),
        ("05001", None),
        ("+5001", None),
        ("5_001", None),
        ("\uff15\uff10\uff10\uff11", None),
        (" 5001", None),
        ("5001\n", None),
        ("9" * 5000, None),
        (10**400, None),
        ([5001], None),
        (None, None),
    ],
)
def test_a_numeric_id_is_one_of_a_person_or_none(value: object, number: int | None) -> None:
    found = principal({"sub": "a", "u": value, "g": value}, claims={"uid": "u", "gid": "g"})
    assert (found.uid, found.gid) == (number, number)


def test_numeric_ids_count_only_where_the_configuration_says_so() -> None:
    found = principal({"sub": "a", "uid": 5001, "gid": 5001, "gids": [5001]})
    assert (found.uid, found.gid, found.gids) == (None, None, ())


def test_group_ids_are_sorted_bounded_and_without_nonsense() -> None:
    claims = {"gids": "g"}
    assert principal({"sub": "a", "g": ["7000", 5000, 7000, True, 0, None, {}]}, claims=claims).gids == (
        5000,
        7000,
    )
    assert principal({"sub": "a", "g": "5000"}, claims=claims).gids == (5000,)
    flood = principal({"sub": "a", "g": list(range(200_000, 300_000))}, claims=claims)
    assert len(flood.gids) == MAX_GROUP_IDS


@pytest.mark.parametrize(("name", "bad"), [("u", "x"), ("u", True), ("g", [0]), ("acc", ["a"]), ("e", [7])])
def test_a_required_claim_under_its_configured_name_has_its_type(name: str, bad: object) -> None:
    names = {"uid": "u", "gids": "g", "facility_account": "acc", "entitlements": ["e"]}
    assert denial({"sub": "a", name: bad}, claims=names, required_claims=[name]) == "claim_type"
    assert denial({"sub": "a"}, claims=names, required_claims=[name]) == "claim_missing"


# -- facility roles -----------------------------------------------------------------------------------


def roles_of(entitlement: object, wanted: str, *, subject: str = "a", **changes: object) -> tuple[str, ...]:
    """The facility roles that one entitlement gives by one rule."""
    rule = {"provider": "aai", "entitlement": f"{NAMESPACE}:group:{wanted}", "role": "support"}
    return principal({"sub": subject, "entitlements": entitlement}, rules=[rule], **changes).roles


@pytest.mark.parametrize(
    ("entitlement", "wanted", "has_role"),
    [
        (STAFF, "staff", True),
        (f"{STAFF}:role=any", "staff", True),
        (f"{STAFF}:night:role=any", "staff", True),
        (f"{STAFF}:role=boss#x", "staff:role=boss", True),
        (f"{STAFF}:night:role=boss", "staff:role=boss", False),
        (f"{STAFF}:role=Boss", "staff:role=boss", False),
        (STAFF, "staff:role=boss", False),
        (STAFF, "staff:night", False),
        (f"{STAFF}2", "staff", False),
        (f"{NAMESPACE}:group:Staff", "staff", False),
        (f"{NAMESPACE}:group:other:staff", "staff", False),
        (f"{NAMESPACE}:sub:group:staff", "staff", False),
        (f"{NAMESPACE}:res:staff:act:support#x", "staff", False),
        ("urn:geant:other.org:group:staff", "staff", False),
        (f"{NAMESPACE}:group:a%3Arole%3Dboss", "a:role=boss", False),
    ],
)
def test_a_rule_gives_its_role_to_exactly_its_group(entitlement: str, wanted: str, has_role: bool) -> None:
    assert roles_of(entitlement, wanted) == (("support",) if has_role else ())


def test_list_and_rules_add_up() -> None:
    assert roles_of(STAFF, "staff", subject="sam") == ("support", "trainer")


def test_a_rule_of_another_provider_gives_nothing() -> None:
    assert roles_of(STAFF, "staff", name="second") == ()


def test_a_rule_that_cannot_be_read_gives_nothing() -> None:
    assert roles_of([STAFF, f"{NAMESPACE}:group"], "") == ()


@given(st.lists(st.sampled_from(["admin", "role=admin", "beamhub-admin", "support"]), max_size=4))
def test_no_claim_names_a_role(names: list[str]) -> None:
    said = [f"{NAMESPACE}:group:{name}" for name in names] + [f"{STAFF}:{name}" for name in names]
    assert set(roles_of(said, "staff")) <= {"support"}


def test_guests_are_guests_and_nothing_else() -> None:
    assert roles_of(STAFF, "staff", subject="sam", are_guests=True) == ("guest",)


def test_a_provider_that_only_says_who_somebody_is_gives_no_rights() -> None:
    said: dict[str, object] = {"sub": "sam", "entitlements": [STAFF, f"{NAMESPACE}:res:a:act:b#c"]}
    rule = {"provider": "aai", "entitlement": STAFF, "role": "support"}
    found = principal(said, rules=[rule], is_identity_only=True, entitlement_namespaces=[])
    assert (found.entitlements, found.capabilities, found.ignored_entitlements) == ((), (), 2)
    assert found.roles == ("trainer",)
    assert found.issuer == ISSUER
