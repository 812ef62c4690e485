"""`beamhub login explain` says what a login would be, by the code of the login."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.clock import utc_now
from beamhub_core.command import main
from beamhub_core.config import read_config
from beamhub_core.identity import Principal, account_name
from beamhub_hub.denial import LoginDenied
from beamhub_hub.explain import ClaimSet, explain
from beamhub_hub.explain_command import read_claims
from hub.hub_parts import NAMESPACE, Addresses, facility_fields, write_facility  # tests' folder

ISSUER = "http://127.0.0.1:9"
OTHER = "http://127.0.0.1:10"
KEYS = {"version", "decision", "rule", "username", "groups", "proposals", "roles", "ignored_entitlements"}
STAFF = f"{NAMESPACE}:group:staff"
Asked = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Two providers, a role by the list, and a role by a rule."""
    addresses = Addresses(
        ISSUER, 8081, "http://127.0.0.1:8001", "http://127.0.0.1:8082", "http://127.0.0.1:8000"
    )
    (tmp_path / "roles.csv").write_text(f"issuer,subject,role\n{ISSUER},sam,trainer\n")
    fields = facility_fields(tmp_path, addresses)
    (first,) = fields["login"]["providers"]
    strict = {
        "name": "strict",
        "issuer": OTHER,
        "required_assurance": ["https://refeds.org/assurance/IAP/low"],
    }
    strict |= {
        "acr_values": ["https://refeds.org/profile/mfa"],
        "max_age_s": 600,
        "id_scopes": ["example.org"],
    }
    fields["login"]["providers"].append(first | strict)
    fields["login"]["role_rules"] = [{"provider": "hostile", "entitlement": STAFF, "role": "support"}]
    return write_facility(tmp_path, fields)


@pytest.fixture
def ask(config_file: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Run the command on a document; exit code and answer."""

    def run(document: Any, *options: str) -> tuple[int, dict[str, Any]]:
        file = config_file.parent / "claims.json"
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        code = main(["login", "explain", str(file), "--config", str(config_file), "--json", *options])
        return code, json.loads(capsys.readouterr().out)

    return run


def said(*entitlements: object, subject: str = "sam", **signed: object) -> dict[str, Any]:
    """What the first provider said in a login."""
    userinfo = {"sub": subject, "entitlements": list(entitlements)}
    return {"issuer": ISSUER, "id_token": {"sub": subject, **signed}, "userinfo": userinfo}


def test_an_allowed_login_has_exactly_these_words(ask: Asked) -> None:
    proposals = [f"{NAMESPACE}:group:proposals:{name}" for name in ("MA-2", "MA-1:role=pi", "MA-3:role=cook")]
    code, answer = ask(said(*proposals, f"{STAFF}:night", "x", 7))
    assert code == 0
    assert answer == {
        "version": 1,
        "decision": "allow",
        "rule": "verified_principal",
        "username": account_name(ISSUER, "sam"),
        "groups": ["beamhub-support", "beamhub-trainer"],
        "proposals": [
            {"id": "MA-1", "role": "pi", "source": "entitlement"},
            {"id": "MA-2", "role": "member", "source": "entitlement"},
        ],
        "roles": ["support", "trainer"],
        "ignored_entitlements": 2,
    }


def test_a_denied_login_has_a_reason_and_nobodys_name(ask: Asked) -> None:
    code, answer = ask(said(subject="test@example.org"))
    assert code == 4
    assert (answer["decision"], answer["rule"], answer["username"]) == ("deny", "subject_blocked", None)
    assert set(answer) == {*KEYS, "reason"}
    assert answer["reason"] == LoginDenied("subject_blocked").advice
    assert answer["groups"] == answer["roles"] == answer["proposals"] == []


def test_an_issuer_that_nobody_knows_is_denied(ask: Asked) -> None:
    code, answer = ask(said() | {"issuer": ISSUER + "/"})
    assert (code, answer["decision"], answer["rule"]) == (4, "deny", "issuer_unknown")


def test_the_issuer_chooses_the_provider(ask: Asked) -> None:
    code, answer = ask(said(acr="https://refeds.org/profile/sfa") | {"issuer": OTHER})
    assert (code, answer["rule"]) == (4, "acr_missing")


def test_an_id_token_of_another_issuer_is_denied(ask: Asked) -> None:
    assert ask(said(iss=OTHER))[1]["rule"] == "token_issuer"


def test_the_signed_issuer_counts_where_the_file_names_none(ask: Asked) -> None:
    document = said(iss=OTHER)
    del document["issuer"]
    assert ask(document)[1]["rule"] == "acr_missing"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, "verified_principal"),
        ({"auth_time": 400}, "verified_principal"),
        ({"auth_time": 339}, "auth_too_old"),
        ({"auth_time": None}, "auth_too_old"),
        ({"acr": "https://refeds.org/profile/mfa/"}, "acr_missing"),
        ({"voperson_id": "sam@example.org@evil.org"}, "subject_scope"),
        ({"voperson_id": "sam"}, "subject_scope"),
        ({"eduperson_assurance": []}, "assurance_missing"),
    ],
)
def test_a_strict_provider_asks_for_everything(ask: Asked, change: dict[str, Any], rule: str) -> None:
    claims = {"sub": "sam", "iat": 1000, "auth_time": 990, "acr": "https://refeds.org/profile/mfa"}
    told = {"sub": "sam", "voperson_id": "sam@Example.org"}
    told |= {"eduperson_assurance": ["https://refeds.org/assurance/profile/cappuccino"]}
    document = {
        "issuer": OTHER,
        "id_token": {name: change.get(name, value) for name, value in claims.items()},
        "userinfo": {name: change.get(name, value) for name, value in told.items()},
    }
    assert ask(document)[1]["rule"] == rule


def test_userinfo_says_nothing_of_authentication(ask: Asked) -> None:
    document = said() | {"issuer": OTHER}
    document["userinfo"]["acr"] = "https://refeds.org/profile/mfa"
    assert ask(document)[1]["rule"] == "acr_missing"


def test_two_subjects_are_denied(ask: Asked) -> None:
    code, answer = ask({"id_token": {"sub": "a"}, "userinfo": {"sub": "b"}})
    assert (code, answer["rule"]) == (4, "userinfo_subject")


def test_one_object_of_claims_counts_for_the_named_or_first_provider(ask: Asked) -> None:
    assert ask({"sub": "sam"})[1]["roles"] == ["trainer"]
    assert ask({"sub": "sam"}, "--provider", "hostile")[1]["roles"] == ["trainer"]
    assert ask({"sub": "sam"}, "--provider", "strict")[1]["rule"] == "acr_missing"


def test_a_provider_that_is_not_the_issuers_is_no_way_around_it(ask: Asked) -> None:
    assert ask(said(), "--provider", "strict")[1]["rule"] == "issuer_unknown"


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[1]",
        "{",
        "[" * 100_000,
        '"x"',
        b"\xff".decode("latin-1"),
        '{"id_token": {"sub": "a"}}',
        '{"id_token": 1, "userinfo": {}}',
        '{"issuer": 7, "id_token": {}, "userinfo": {}}',
        '{"issuer": null, "id_token": {}, "userinfo": {}}',
        '{"issuer": "x", "sub": "a"}',
        '{"id_token": {}, "userinfo": {}, "sub": "a"}',
    ],
)
def test_a_file_without_claims_is_a_usage_error(ask: Asked, document: str) -> None:
    code, answer = ask(document)
    assert (code, answer["error"]) == (2, "ClaimsUnreadable")
    assert "Give one JSON object" in answer["message"]


def test_a_huge_file_is_a_usage_error(ask: Asked) -> None:
    assert ask('{"sub": "' + "a" * 1_000_000 + '"}')[0] == 2


def test_a_provider_that_does_not_exist_is_named_with_those_that_do(ask: Asked) -> None:
    code, answer = ask({"sub": "a"}, "--provider", "nowhere")
    assert code == 3
    assert "There are: hostile, strict." in answer["message"]


def test_the_answer_for_people_is_readable_and_harmless(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config_file.parent / "claims.json"
    values = [
        f"{NAMESPACE}:group:proposals:MA%2F1:role=pi",
        f"{NAMESPACE}:group:a%1B%5B2J",
        f"{NAMESPACE}:res:r#a",
    ]
    file.write_text(json.dumps({"sub": "sam", "name": "Sam", "entitlements": values}))
    assert main(["login", "explain", str(file), "--config", str(config_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  proposals:MA/1 as pi" in lines
    assert "  a�[2J" in lines
    assert "  r: no action, gives nothing" in lines
    assert "facility roles: trainer" in lines


def test_a_denial_for_people_names_rule_and_reason(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config_file.parent / "claims.json"
    file.write_text(json.dumps({"sub": "test@example.org"}))
    assert main(["login", "explain", str(file), "--config", str(config_file)]) == 4
    out = capsys.readouterr().out
    assert "denied: subject_blocked" in out
    assert "test@example.org" not in out


def test_the_identity_map_has_its_say_after_the_claims(config_file: Path) -> None:
    config = read_config(config_file)
    claims = read_claims_of(config_file, said())

    def add_ids(person: Principal) -> Principal:
        return person.model_copy(update={"uid": 5001})

    def refuse(person: Principal) -> Principal:
        raise LoginDenied("not_allowed")

    allowed = explain(claims, config, now=utc_now(), map_identity=add_ids)
    assert allowed.principal is not None
    assert allowed.principal.uid == 5001
    assert explain(claims, config, now=utc_now(), map_identity=refuse).rule == "not_allowed"


def read_claims_of(config_file: Path, document: dict[str, Any]) -> ClaimSet:
    """A document by way of a file."""
    file = config_file.parent / "claims.json"
    file.write_text(json.dumps(document))
    return read_claims(file)
