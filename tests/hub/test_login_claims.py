"""Verified claims become a Principal, or one typed denial, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import Principal, account_name
from beamhub_hub.claims import merge_claims
from beamhub_hub.denial import LoginDenied
from beamhub_hub.role_assignments import read_role_assignments
from hub.claims_parts import ISSUER, principal, provider  # tests' folder

NAMES = [
    "sub", "name", "given_name", "family_name", "preferred_username", "voperson_id", "orcid", "acr",
    "schac_home_organization", "entitlements", "eduperson_entitlement", "eduperson_assurance", "account",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(NAMES), json_values), st.sets(st.sampled_from(NAMES), max_size=2))
def test_any_claims_give_a_principal_or_a_typed_denial(claims: dict[str, object], required: set[str]) -> None:
    try:
        found = principal(claims, required_claims=tuple(required), claims={"facility_account": "account"})
    except LoginDenied as denied:
        assert denied.code in ("token_subject", "claim_missing", "claim_type", "subject_blocked")
    else:
        assert found.account == account_name(ISSUER, str(claims["sub"]))
        assert found.roles == (("trainer",) if claims["sub"] == "sam" else ())
        assert Principal.model_validate_json(found.model_dump_json()) == found


@given(
    st.dictionaries(st.sampled_from(NAMES), json_values), st.dictionaries(st.text(max_size=6), json_values)
)
def test_merging_raises_nothing_but_its_denial(signed: dict[str, object], told: dict[str, object]) -> None:
    try:
        merged = merge_claims(signed, told)
    except LoginDenied as denied:
        assert denied.code == "userinfo_subject"
    else:
        assert merged.get("sub") == signed.get("sub")


def test_userinfo_never_changes_what_the_signature_covers() -> None:
    signed = {"sub": "a", "iss": ISSUER, "acr": "low", "exp": 1}
    merged = merge_claims(
        signed, {"sub": "a", "iss": "https://evil", "acr": "high", "exp": 9, "amr": ["mfa"]}
    )
    assert merged == signed


def test_userinfo_of_another_subject_is_denied() -> None:
    with pytest.raises(LoginDenied) as caught:
        merge_claims({"sub": "a"}, {"sub": "b"})
    assert caught.value.code == "userinfo_subject"


def test_both_names_of_the_entitlements_claim_count() -> None:
    found = principal(
        {
            "sub": "a",
            "entitlements": "urn:geant:example.org:group:proposals:MA-1",
            "eduperson_entitlement": ["urn:geant:example.org:group:proposals:MA-2:role=pi", "x", None],
        }
    )
    assert [(item.subgroups, item.role) for item in found.entitlements] == [
        (("MA-1",), None),
        (("MA-2",), "pi"),
    ]
    assert found.ignored_entitlements == 2


@pytest.mark.parametrize("subject", [None, "", 7, ["a"], "a b", "a\n", "ä", "x" * 256, True])
def test_an_unusable_subject_is_denied(subject: object) -> None:
    with pytest.raises(LoginDenied) as caught:
        principal({"sub": subject})
    assert caught.value.code == "token_subject"


def test_subjects_that_differ_in_letter_case_are_two_accounts() -> None:
    assert principal({"sub": "Anna"}).account != principal({"sub": "anna"}).account


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_a_missing_required_claim_denies_and_is_named(value: object) -> None:
    with pytest.raises(LoginDenied, match="voperson_id") as caught:
        principal({"sub": "a", "voperson_id": value}, required_claims=["voperson_id"])
    assert caught.value.code == "claim_missing"


@pytest.mark.parametrize(
    ("name", "value"), [("voperson_id", ["a"]), ("eduperson_assurance", {"a": 1}), ("entitlements", ["a", 1])]
)
def test_a_required_claim_of_the_wrong_type_denies(name: str, value: object) -> None:
    with pytest.raises(LoginDenied) as caught:
        principal({"sub": "a", name: value}, required_claims=[name])
    assert caught.value.code == "claim_type"


def test_monitoring_accounts_do_not_log_in() -> None:
    with pytest.raises(LoginDenied) as caught:
        principal({"sub": "x", "voperson_id": "test@eduteams.org"})
    assert caught.value.code == "subject_blocked"


def test_a_role_in_a_claim_gives_no_facility_role() -> None:
    found = principal({"sub": "a", "roles": ["admin"], "groups": ["admin"], "admin": True})
    assert found.roles == ()


@pytest.mark.parametrize(
    ("value", "orcid"),
    [
        ("0000-0002-1825-0097", "0000-0002-1825-0097"),
        ("https://orcid.org/0000-0002-1694-233X", "0000-0002-1694-233X"),
        ("0000-0002-1825-0098", None),
        ("https://orcid.org.evil/0000-0002-1825-0097", None),
        ("0000-0002-1825-0097\n", None),
        (["0000-0002-1825-0097"], None),
        ("".join(chr(0x660 + int(c)) if c.isdigit() else c for c in "0000-0002-1825-0097"), None),
    ],
)
def test_an_orcid_counts_only_when_its_check_digit_fits(value: object, orcid: str | None) -> None:
    assert principal({"sub": "a", "orcid": value}).orcid == orcid


def test_a_display_name_cannot_change_the_direction_or_the_line() -> None:
    found = principal({"sub": "a", "name": "Ines\u202e\n<b>Ferreira</b>\x00"})
    assert found.display_name == "Ines <b>Ferreira</b>"


def test_the_facility_account_counts_only_where_the_config_says_so() -> None:
    claims: dict[str, object] = {"sub": "a", "uid": "ferreira"}
    assert principal(claims).facility_account is None
    assert principal(claims, claims={"facility_account": "uid"}).facility_account == "ferreira"


def test_a_role_comes_from_the_facilitys_own_list(tmp_path: Path) -> None:
    path = tmp_path / "roles.csv"
    path.write_text(f"issuer,subject,role\n{ISSUER},sam,instrument_scientist\n{ISSUER},sam,admin\n")
    roles = read_role_assignments(path)
    assert roles.of(ISSUER, "sam") == ("admin", "instrument_scientist")
    assert roles.of("https://other.example", "sam") == ()
    assert roles.of(ISSUER, "Sam") == ()


def test_a_broken_role_list_names_every_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "roles.csv"
    path.write_text(f"issuer,subject,role\n{ISSUER},sam,boss\n{ISSUER},,admin\n{ISSUER},tara,trainer\n")
    with pytest.raises(ConfigInvalid) as caught:
        read_role_assignments(path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 2", "line 3"]


def test_an_issuer_without_tls_is_a_config_problem() -> None:
    with pytest.raises(ValueError, match="has no TLS"):
        provider(issuer="http://aai.example.org")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS1"])
def test_algorithms_without_a_public_key_are_a_config_problem(algorithm: str) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        provider(algorithms=[algorithm])
