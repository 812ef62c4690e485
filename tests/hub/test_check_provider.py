"""`beamhub login check-provider` sees what would keep people out, before anybody tries."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config import read_config
from beamhub_core.config.provider import ProviderConfig
from beamhub_hub import command
from beamhub_hub.denial import ProviderUnavailable
from beamhub_hub.login_addresses import addresses_of
from beamhub_hub.named_provider import ProviderUnknown
from beamhub_hub.provider_findings import clock_finding, findings, key_findings
from beamhub_hub.provider_metadata import parse_metadata
from hub.hostile_provider import HostileProvider, hostile_provider  # tests' folder
from hub.hub_parts import Addresses, RunningHub, browser, facility_fields, log_in, write_facility

SKEWS = [(0, "ok"), (-29, "ok"), (31, "warn"), (-61, "fail"), (None, "warn")]
PUBLIC = "https://beamhub.example.org/analysis"
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def provider() -> Iterator[HostileProvider]:
    """A provider that says of itself what a test wants."""
    with hostile_provider() as provider:
        yield provider


@pytest.fixture
def config_file(tmp_path: Path, provider: HostileProvider) -> Path:
    """A configuration with that provider."""
    return write_config(tmp_path, provider.issuer)


def write_config(folder: Path, issuer: str, **changes: Any) -> Path:
    """A configuration with one provider."""
    addresses = Addresses(issuer, 8081, "http://127.0.0.1:8001", "http://127.0.0.1:8082", PUBLIC)
    fields = facility_fields(folder, addresses)
    fields["login"]["providers"][0] |= changes
    return write_facility(folder, fields)


def run(config_file: Path, *options: str, name: str = "hostile") -> int:
    """The exit code of the command."""
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    words = ["login", "check-provider", name, "--config", str(config_file), *options]
    arguments = parser.parse_args(words)
    code: int = resolve_name(arguments.run)(arguments)
    return code


def verdicts(config_file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The verdict of each subject, after a look whose exit code fits them."""
    code = run(config_file, "--json")
    answer = json.loads(capsys.readouterr().out)
    found = {item["subject"]: item["verdict"] for item in answer["findings"]}
    assert code == ("fail" in found.values())
    assert answer["ok"] == (code == 0)
    return found


def test_an_honest_provider_passes_with_the_addresses_to_register(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config_file, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["register"] == {
        "redirect_uri": f"{PUBLIC}/hub/login/hostile/callback",
        "backchannel_logout_uri": f"{PUBLIC}/hub/login/hostile/backchannel",
        "post_logout_redirect_uri": f"{PUBLIC}/hub/login/hostile/loggedout",
    }
    assert run(config_file) == 0
    said = capsys.readouterr().out
    assert f"{PUBLIC}/hub/login/hostile/callback" in said
    assert "0 failed" in said


@pytest.mark.hub
def test_the_addresses_are_those_that_the_hub_sends(hub: RunningHub) -> None:
    config = read_config(hub.folder / "facility.yaml")
    addresses = addresses_of(config, config.login.providers[0].name)
    with browser() as client:
        log_in(hub, client)
        page = client.get(f"{hub.public_url}/hub/logout", headers={"Sec-Fetch-Site": "same-origin"})
        assert page.json()["post_logout_redirect_uri"] == addresses.post_logout_redirect_uri
        client.follow_redirects = False
        sent = parse_qs(urlsplit(log_in(hub, client).headers["location"]).query)
    assert sent["redirect_uri"] == [addresses.redirect_uri]


@pytest.mark.parametrize(
    ("said", "subject"),
    [
        ({"issuer": "https://evil.example"}, "issuer"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"userinfo_endpoint": "ftp://x/"}, "userinfo_endpoint"),
        ({"jwks_uri": 7}, "jwks_uri"),
        ({"end_session_endpoint": "javascript:alert(1)"}, "logout"),
        ({"response_types_supported": ["id_token"]}, "code flow"),
        ({"grant_types_supported": ["implicit"]}, "code flow"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
        ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "signing algorithms"),
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "client authentication"),
    ],
)
def test_what_would_keep_everybody_out_fails(
    config_file: Path,
    provider: HostileProvider,
    capsys: pytest.CaptureFixture[str],
    said: dict[str, Any],
    subject: str,
) -> None:
    provider.script.discovery |= said
    assert verdicts(config_file, capsys)[subject] == "fail"


@pytest.mark.parametrize(
    ("said", "subject"),
    [
        ({}, "back-channel logout"),
        ({"backchannel_logout_supported": True}, "back-channel logout"),
        ({"end_session_endpoint": None}, "logout"),
        ({}, "issuer in the response"),
        ({"scopes_supported": ["openid"]}, "scopes"),
        ({"claims_supported": ["sub"]}, "entitlements"),
        ({"grant_types_supported": ["authorization_code"]}, "refresh"),
    ],
)
def test_what_takes_something_away_is_to_be_looked_at(
    config_file: Path,
    provider: HostileProvider,
    capsys: pytest.CaptureFixture[str],
    said: dict[str, Any],
    subject: str,
) -> None:
    provider.script.discovery |= said
    assert verdicts(config_file, capsys)[subject] == "warn"


def test_a_second_factor_that_is_not_offered_fails(
    tmp_path: Path, provider: HostileProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    mfa = "https://refeds.org/profile/mfa"
    config = write_config(tmp_path, provider.issuer, acr_values=[mfa])
    assert verdicts(config, capsys)["authentication context"] == "warn"  # nothing is said of it
    provider.script.discovery["acr_values_supported"] = ["1"]
    assert verdicts(config, capsys)["authentication context"] == "fail"
    provider.script.discovery["acr_values_supported"] = [mfa, "1"]
    assert verdicts(config, capsys)["authentication context"] == "ok"


def test_claims_that_the_rules_need_are_named(
    tmp_path: Path, provider: HostileProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = {"id_scopes": ["example.org"], "required_assurance": ["https://refeds.org/assurance/IAP/low"]}
    config = write_config(tmp_path, provider.issuer, **needs)
    provider.script.discovery["claims_supported"] = ["sub", "voperson_id", "entitlements"]
    assert run(config) == 0
    said = capsys.readouterr().out
    assert "not announced: eduperson_assurance" in said


@pytest.mark.parametrize("keys", [(), ("first", "second")])
def test_keys_are_counted_and_bad_ones_left_out(
    config_file: Path, provider: HostileProvider, capsys: pytest.CaptureFixture[str], keys: tuple[str, ...]
) -> None:
    provider.script.published_keys = keys
    provider.script.extra_keys = [{"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "n": "!"}, {"kty": 7}]
    code = run(config_file)
    assert f"{len(keys)} of {len(keys) + 3} usable" in capsys.readouterr().out
    assert code == (0 if keys else 1)


@pytest.mark.parametrize("name", ["hostle", "elsewhere"])
def test_an_unknown_name_ends_with_the_nearest(config_file: Path, name: str) -> None:
    with pytest.raises(ProviderUnknown) as caught:
        run(config_file, name=name)
    assert caught.value.exit_code == 3
    assert ("did you mean 'hostile'" in str(caught.value)) == (name == "hostle")


@pytest.mark.parametrize("fault", ["status", "location", "raw"])
def test_a_provider_that_gives_no_document_is_to_be_asked_later(
    config_file: Path, provider: HostileProvider, fault: str
) -> None:
    value = {"status": 500, "location": "https://evil.example/", "raw": b"<html>"}[fault]
    getattr(provider.script, fault)["/.well-known/openid-configuration"] = value
    with pytest.raises(ProviderUnavailable) as caught:
        run(config_file)
    assert caught.value.exit_code == 6


def test_a_provider_that_does_not_listen_is_to_be_asked_later(tmp_path: Path, free_port: int) -> None:
    with pytest.raises(ProviderUnavailable, match="gives no usable answer"):
        run(write_config(tmp_path, f"http://127.0.0.1:{free_port}"))


def test_the_client_secret_is_not_needed(config_file: Path) -> None:
    (config_file.parent / "secrets" / "provider").write_text("")
    assert run(config_file) == 0


@pytest.mark.parametrize(("skew_s", "verdict"), SKEWS)
def test_clocks_apart_are_seen(skew_s: float | None, verdict: str) -> None:
    assert clock_finding(skew_s).verdict == verdict


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("https://op.example/x"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# fmt: off
NAMES = (
    "issuer", "authorization_endpoint", "token_endpoint",
    "userinfo_endpoint", "jwks_uri", "end_session_endpoint",
    "response_types_supported", "grant_types_supported", "code_challenge_methods_supported",
    "scopes_supported", "claims_supported", "acr_values_supported",
    "token_endpoint_auth_methods_supported", "id_token_signing_alg_values_supported",
    "backchannel_logout_supported",
    "claims_parameter_supported",
)
# fmt: on
OURS = ProviderConfig.model_validate(
    {
        "name": "op",
        "title": "OP",
        "issuer": "https://op.example",
        "client_id": "x",
        "client_secret_file": "/dev/null",
    },
    context={"folder": None},
)


@given(document=st.dictionaries(st.sampled_from(NAMES), json_values) | json_values)
def test_what_the_login_refuses_fails_here_too(document: Any) -> None:
    found = findings(document, OURS)
    try:
        parse_metadata(document, OURS)
    except ProviderUnavailable:
        assert any(finding.verdict == "fail" for finding in found)
    assert all(finding.text.isprintable() and len(finding.text) < 3000 for finding in found)


@given(document=json_values | st.fixed_dictionaries({"keys": st.lists(json_values, max_size=5)}))
def test_any_key_set_has_a_verdict(document: Any) -> None:
    assert key_findings(document, OURS).verdict in ("ok", "warn", "fail")
