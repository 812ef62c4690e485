"""From facility.yaml to JupyterHub's settings; without its secrets nothing starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.errors import ConfigInvalid
from beamhub_hub.app import extra_config_files
from beamhub_hub.wiring import ROLE_SCOPES, configure, portal_url
from hub.hub_parts import Addresses, facility_fields, write_facility  # the tests' folder

ADDRESSES = Addresses(
    issuer="http://127.0.0.1:9",
    hub_port=8081,
    proxy_api="http://127.0.0.1:8001",
    web="http://127.0.0.1:8082",
    public_url="https://analysis.example.org",
)


@pytest.fixture
def facility(tmp_path: Path) -> Callable[..., FacilityConfig]:
    """A function that makes a configuration."""

    def make(change: Callable[[dict[str, Any]], None] | None = None) -> FacilityConfig:
        fields = facility_fields(tmp_path, ADDRESSES)
        if change is not None:
            change(fields)
        return read_config(write_facility(tmp_path, fields))

    return make


def wired(config: FacilityConfig) -> Any:
    """The settings of a configuration."""
    c: Any = Config()
    configure(c, config)
    return c


def test_the_hub_never_ends_its_proxy_or_its_sessions(facility: Callable[..., FacilityConfig]) -> None:
    c = wired(facility())
    assert c.ConfigurableHTTPProxy.should_start is False
    assert c.JupyterHub.cleanup_servers is False
    assert c.JupyterHub.cleanup_proxy is False
    assert c.Spawner.consecutive_failure_limit == 0
    assert c.JupyterHub.init_spawners_timeout == 1


def test_front_page_callback_and_portal_follow_the_public_url(
    facility: Callable[..., FacilityConfig],
) -> None:
    def below_a_path(fields: dict[str, Any]) -> None:
        fields["hub"]["public_url"] = "https://analysis.example.org/beam/"

    config = facility(below_a_path)
    c = wired(config)
    assert portal_url(config) == "/beam/services/web/"
    assert c.JupyterHub.default_url == "/beam/services/web/"
    assert c.JupyterHub.bind_url == "https://analysis.example.org/beam/"
    (service,) = c.JupyterHub.services
    assert service["oauth_redirect_uri"] == "https://analysis.example.org/beam/services/web/oauth_callback"


def test_processes_are_reached_elsewhere_than_where_they_listen(
    facility: Callable[..., FacilityConfig],
) -> None:
    def in_pods(fields: dict[str, Any]) -> None:
        fields["hub"] |= {"listen_host": "0.0.0.0", "connect_url": "http://platform-hub:8080"}  # noqa: S104
        fields["web"] |= {"listen_host": "0.0.0.0", "internal_url": "http://platform-web:8080"}  # noqa: S104

    c = wired(facility(in_pods))
    assert c.JupyterHub.hub_bind_url == "http://0.0.0.0:8081"
    assert c.JupyterHub.hub_connect_url == "http://platform-hub:8080"
    assert c.JupyterHub.services[0]["url"] == "http://platform-web:8080"


def test_where_nothing_else_is_said_the_hub_is_reached_where_it_listens(
    facility: Callable[..., FacilityConfig],
) -> None:
    c = wired(facility())
    assert "hub_connect_url" not in c.JupyterHub


def test_the_database_password_is_read_from_its_file_and_stands_in_no_url(
    facility: Callable[..., FacilityConfig], tmp_path: Path
) -> None:
    (tmp_path / "database-password").write_text("opensesame\n")

    def on_postgresql(fields: dict[str, Any]) -> None:
        fields["hub"] |= {
            "database_url": "postgresql://hub@database/hub",
            "database_password_file": str(tmp_path / "database-password"),
        }

    c = wired(facility(on_postgresql))
    assert c.JupyterHub.db_url == "postgresql+psycopg://hub@database/hub"
    assert c.JupyterHub.db_kwargs["connect_args"] == {"password": "opensesame"}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("connect_url", "http://hub:8081/hub", "has a path"),
        ("connect_url", "hub:8081", "connect_url"),
        ("database_password_file", "/run/secrets/password", "PostgreSQL"),
    ],
)
def test_an_address_or_password_that_cannot_be_used_is_refused(
    facility: Callable[..., FacilityConfig], key: str, value: str, words: str
) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        facility(lambda fields: fields["hub"].update({key: value}))


def test_no_role_may_make_accounts_or_open_other_peoples_servers(
    facility: Callable[..., FacilityConfig],
) -> None:
    c = wired(facility())
    granted = {scope for role in c.JupyterHub.load_roles for scope in role["scopes"]}
    assert not granted & {
        "admin:users",
        "admin:auth_state",
        "access:servers",
        "users",
        "tokens",
        "admin:groups",
    }
    assert "access:servers" not in " ".join(ROLE_SCOPES.values())


def test_a_session_may_reach_web_because_its_owner_may(facility: Callable[..., FacilityConfig]) -> None:
    c = wired(facility())
    (server,) = (role for role in c.JupyterHub.load_roles if role["name"] == "server")
    assert "access:services!service=web" in server["scopes"]
    assert "access:services!service=web" in c.JupyterHub.extra_user_scopes


def below_a_name(fields: dict[str, Any]) -> None:
    """A host name for each person."""
    fields["hub"]["subdomain_host"] = "analysis.example.org"


def test_each_person_has_a_host_name_where_one_is_configured(
    facility: Callable[..., FacilityConfig],
) -> None:
    c = wired(facility(below_a_name))
    assert c.JupyterHub.subdomain_host == "https://analysis.example.org"
    assert c.JupyterHub.cookie_host_prefix_enabled is True
    (service,) = c.JupyterHub.services
    assert "url" not in service
    assert c.ConfigurableHTTPProxy.extra_routes == {
        "analysis.example.org/services/web/": "http://127.0.0.1:8082"
    }


def test_without_tls_or_host_names_no_cookie_asks_for_the_prefix(
    facility: Callable[..., FacilityConfig],
) -> None:
    def without_tls(fields: dict[str, Any]) -> None:
        below_a_name(fields)
        fields["hub"]["public_url"] = "http://analysis.example.org:8000"

    c = wired(facility(without_tls))
    assert c.JupyterHub.subdomain_host == "http://analysis.example.org:8000"
    assert c.JupyterHub.cookie_host_prefix_enabled is False
    plain = wired(facility())
    assert "subdomain_host" not in plain.JupyterHub
    assert "cookie_host_prefix_enabled" not in plain.JupyterHub


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("example.org", "is not the host of"),
        ("other.example.net", "is not the host of"),
        ("https://analysis.example.org", "is no host name"),
        ("analysis.example.org:443", "is no host name"),
        ("Analysis.example.org", "is no host name"),
        ("127.0.0.1", "is no host name"),
        ("localhost", "is no host name"),
        ("analysis.example.org.", "is no host name"),
        ("*.example.org", "is no host name"),
        ("analysis.example.org\n", "is no host name"),
    ],
)
def test_a_host_that_cannot_hold_people_is_refused(
    facility: Callable[..., FacilityConfig], host: str, words: str
) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        facility(lambda fields: fields["hub"].update(subdomain_host=host))


def test_what_hardens_the_hub_is_on(facility: Callable[..., FacilityConfig]) -> None:
    c = wired(facility())
    assert c.JupyterHub.oauth_require_pkce is True
    assert c.JupyterHub.authenticate_prometheus is True
    assert c.JupyterHub.trust_user_provided_tokens is False
    assert c.JupyterHub.admin_access is False
    assert c.JupyterHub.cookie_max_age_days <= 1
    assert c.JupyterHub.oauth_token_expires_in <= 24 * 3600
    assert 0 < c.JupyterHub.token_expires_in_max_seconds <= 30 * 24 * 3600
    settings = c.JupyterHub.tornado_settings
    for cookies in (settings["cookie_options"], settings["xsrf_cookie_kwargs"]):
        assert cookies == {"samesite": "Lax", "secure": True}
    assert settings["headers"]["Cache-Control"] == "no-store"
    assert "allow_all" not in c.BeamhubAuthenticator
    assert "admin_users" not in c.BeamhubAuthenticator


@pytest.mark.parametrize(
    "address", ["no address", "a@b c", "a@b\nBcc:x@y", "javascript:x@y", "a@b?cc=c@d", "a@b&x"]
)
def test_a_support_address_is_one_address(facility: Callable[..., FacilityConfig], address: str) -> None:
    with pytest.raises(ConfigInvalid, match="support_email"):
        facility(lambda fields: fields["hub"].update(support_email=address))


SECRETS = ("crypt-key", "hub-cookie", "proxy", "web-service", "hub-client")


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("content", [None, "", "\n", "schlüssel"])
def test_a_missing_or_unusable_secret_stops_the_start(
    facility: Callable[..., FacilityConfig], tmp_path: Path, name: str, content: str | None
) -> None:
    config = facility()
    path = tmp_path / "secrets" / name
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        wired(config)
    assert caught.value.source == str(path)


@pytest.mark.parametrize("name", ["crypt-key", "hub-cookie"])
def test_a_key_of_the_wrong_form_is_refused_and_not_shown(
    facility: Callable[..., FacilityConfig], tmp_path: Path, name: str
) -> None:
    config = facility()
    (tmp_path / "secrets" / name).write_text("correct horse battery staple")
    with pytest.raises(ConfigInvalid, match="64 hexadecimal digits") as caught:
        wired(config)
    assert "battery" not in str(caught.value)


def test_several_keys_rotate_the_newest_encrypts(
    facility: Callable[..., FacilityConfig], tmp_path: Path
) -> None:
    config = facility()
    (tmp_path / "secrets" / "crypt-key").write_text("11" * 32 + "\n" + "22" * 32 + "\n")
    assert wired(config).CryptKeeper["keys"] == [b"\x11" * 32, b"\x22" * 32]


def test_the_facilitys_own_files_come_last_in_name_order(tmp_path: Path) -> None:
    folder = tmp_path / "jupyterhub_config.d"
    folder.mkdir()
    for name in ("20-b.py", "10-a.py", "notes.txt"):
        (folder / name).write_text("")
    found = extra_config_files(tmp_path / "facility.yaml")
    assert [path.name for path in found] == ["10-a.py", "20-b.py"]


def test_a_start_without_its_crypt_key_is_one_clear_line(
    facility: Callable[..., FacilityConfig], tmp_path: Path
) -> None:
    facility()
    (tmp_path / "secrets" / "crypt-key").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "beamhub_hub", "--config", str(tmp_path / "facility.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert "crypt-key" in done.stderr
