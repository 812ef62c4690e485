"""`beamhub login explain` says who a file of claims would be, by the code of the login."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.errors import BeamhubError
from beamhub_core.identity import account_name
from beamhub_hub import command
from beamhub_hub.denial import LoginDenied
from hub.hub_parts import NAMESPACE, Addresses, facility_fields, write_facility  # tests' folder

ISSUER = "http://127.0.0.1:9"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration with one facility role."""
    addresses = Addresses(
        ISSUER, 8081, "http://127.0.0.1:8001", "http://127.0.0.1:8082", "http://127.0.0.1:8000"
    )
    (tmp_path / "roles.csv").write_text(f"issuer,subject,role\n{ISSUER},sam,trainer\n")
    return write_facility(tmp_path, facility_fields(tmp_path, addresses))


def explain(config_file: Path, document: Any, *options: str) -> int:
    """Run the command on a document."""
    file = config_file.parent / "claims.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    arguments = parser.parse_args(["login", "explain", str(file), "--config", str(config_file), *options])
    code: int = arguments.run(arguments)
    return code


def test_the_answer_as_json_is_the_principal(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    userinfo = {"sub": "sam", "entitlements": [f"{NAMESPACE}:group:proposals:MA-1:role=pi", "x"]}
    document = {"id_token": {"sub": "sam", "acr": "mfa"}, "userinfo": userinfo}
    assert explain(config_file, document, "--json") == 0
    principal = json.loads(capsys.readouterr().out)["principal"]
    assert principal["account"] == account_name(ISSUER, "sam")
    assert (principal["roles"], principal["acr"]) == (["trainer"], "mfa")
    assert principal["ignored_entitlements"] == 1


def test_the_answer_for_people_names_groups_and_roles(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = {"sub": "sam", "name": "Sam", "entitlements": f"{NAMESPACE}:group:proposals:MA%2F1:role=pi"}
    assert explain(config_file, claims) == 0
    said = capsys.readouterr().out
    assert "proposals:MA/1 as pi" in said
    assert "facility roles: trainer" in said


def test_two_subjects_are_denied_with_the_exit_code_of_a_denial(config_file: Path) -> None:
    with pytest.raises(LoginDenied) as caught:
        explain(config_file, {"id_token": {"sub": "a"}, "userinfo": {"sub": "b"}})
    assert (caught.value.code, caught.value.exit_code) == ("userinfo_subject", 4)


@pytest.mark.parametrize(
    "document",
    ["", "[1]", "{", "[" * 100_000, '{"id_token": {"sub": "a"}}', '{"id_token": 1, "userinfo": {}}', '"x"'],
)
def test_a_file_without_claims_is_a_usage_error(config_file: Path, document: str) -> None:
    with pytest.raises(command.ClaimsUnreadable) as caught:
        explain(config_file, document)
    assert caught.value.exit_code == 2


def test_an_unknown_provider_is_named_with_the_known_ones(config_file: Path) -> None:
    with pytest.raises(BeamhubError, match="There are: hostile") as caught:
        explain(config_file, {"sub": "a"}, "--provider", "nowhere")
    assert caught.value.exit_code == 3
