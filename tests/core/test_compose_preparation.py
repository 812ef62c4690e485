"""What `prepare` makes for compose.yaml, and that both say the same of users, secrets, ports and networks."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from beamhub_core.config import read_config
from beamhub_core.demo.access_list import let_read
from beamhub_core.demo.compose import (
    ConfigElsewhere,
    RootUnusable,
    SecretMissing,
    main,
    prepare_compose,
)
from beamhub_core.demo.compose_config import (
    ComposeSettings,
    build_agent_config,
    build_compose_config,
    database_script,
    identity_rows,
)
from beamhub_core.demo.compose_layout import GROUP, HOMES_OF_SECRETS, SHARED, USERS, ComposeLayout
from beamhub_core.errors import ConfigInvalid

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ComposeSettings(
    name="beamhub",
    public_url="http://beamhub.localhost:8000",
    issuer="http://identity.localhost:8003",
    image="beamhub-base:dev",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders for several users")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    return found


def plain(text: str) -> str:
    """A value of compose.yaml with the defaults of its variables."""
    return re.sub(r"\$\{\w+(?::-([^}]*))?(?::\?[^}]*)?\}", lambda found: found.group(1) or "", text)


# -- compose.yaml itself --------------------------------------------------------------------


def test_every_service_is_confined(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"\d+:\d+", service["user"]), name
        assert service["mem_limit"] and service["pids_limit"], name
        assert "privileged" not in service
        assert name == "prepare" or service["healthcheck"]["test"], name
        assert name == "prepare" or service["restart"] == "unless-stopped", name


def test_the_numbers_of_users_are_those_of_the_layout(services: dict[str, dict[str, Any]]) -> None:
    users = {name: service["user"] for name, service in services.items()}
    assert {name for name, user in users.items() if user == "0:0"} == {"agent", "prepare"}
    for name, uid in USERS.items():
        assert users[name] == f"{uid}:{GROUP if name != 'database' else uid}"


def test_only_the_agent_has_the_engines_socket(services: dict[str, dict[str, Any]]) -> None:
    holders = {
        name for name, service in services.items() if any("docker.sock" in one for one in service["volumes"])
    }
    assert holders == {"agent"}


def test_a_service_mounts_its_own_secrets_and_no_others(services: dict[str, dict[str, Any]]) -> None:
    needed: dict[str, set[str]] = {"agent": {"agent"}, "gateway": {"gateway-and-hub"}}
    for homes in HOMES_OF_SECRETS.values():
        for home in homes:
            needed.setdefault(SHARED.get(home, home), set()).add(home)
    for name, service in services.items():
        mounted = {
            found.group(1)
            for one in service["volumes"]
            if (found := re.match(r"\$\{BEAMHUB_FACILITY_ROOT\}/secrets/([a-z-]+)", one))
        }
        assert mounted == needed.get(name, set()), name
        whole = [one for one in service["volumes"] if one.startswith("${BEAMHUB_FACILITY_ROOT}:")]
        assert not whole or name == "prepare"


def test_nothing_but_proxy_and_provider_is_published_and_on_loopback(
    services: dict[str, dict[str, Any]],
) -> None:
    ports = {name: [plain(one) for one in service.get("ports", ())] for name, service in services.items()}
    assert {name: one for name, one in ports.items() if one} == {
        "proxy": ["127.0.0.1:8000:8000"],
        "provider": ["127.0.0.1:8003:8003"],
    }


def test_database_and_agent_are_reached_by_those_who_need_them(services: dict[str, dict[str, Any]]) -> None:
    members: dict[str, set[str]] = {}
    for name, service in services.items():
        for network in service.get("networks", ()):
            members.setdefault(network, set()).add(name)
    assert members == {
        "front": {"proxy", "hub", "web"},
        "login": {"hub", "provider"},
        "database": {"database", "hub", "web"},
        "agent": {"agent", "hub", "gateway"},
        "plans": {"agent", "web", "gateway"},
    }
    networks = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["networks"]
    assert {name for name, one in networks.items() if one.get("internal")} == {"database", "agent", "plans"}
    # The engine moves published ports, cutting connections, to a network whose name comes first.
    assert plain(networks["front"]["name"]) < "beamhub-"


# -- what is written ------------------------------------------------------------------------


def test_the_configuration_is_valid_and_names_the_containers(tmp_path: Path) -> None:
    layout = ComposeLayout(tmp_path / "with a space")
    layout.config.mkdir(parents=True)
    layout.config_file.write_text(yaml.safe_dump(build_compose_config(layout, SETTINGS)))
    config = read_config(layout.config_file)
    place = config.sessions.places[0]
    assert place.docker is not None
    assert {peer.container for peer in place.docker.peers} == {
        f"beamhub-{name}" for name in ("proxy", "hub", "web", "gateway")
    }
    assert not place.docker.unsafe_direct_socket
    assert config.hub.subdomain_host == "beamhub.localhost"
    assert config.web.internal_url == config.sessions.web_url == "http://web:8082"
    scopes = {client.name: client.scopes for client in config.web.clients}
    assert set(scopes) == {"hub", "demo", "agent", "gateway"}
    assert scopes["agent"] == ("plans:read",)
    assert scopes["gateway"] == ("plans:read", "usage:write")
    assert config.gateway is not None
    assert config.gateway.session_url == "http://gateway:8786"
    assert build_agent_config(layout)["place"] == place.name


def test_nobody_without_a_proposal_has_a_numeric_identity() -> None:
    rows = identity_rows("http://identity.localhost:8003")
    assert {row[1] for row in rows} == {"ines", "colin", "sam", "tara"}
    assert len({row[3] for row in rows}) == len(rows)


def test_hub_and_web_cannot_open_each_others_database() -> None:
    script = database_script({"hub": "aa", "web": "bb"})
    for name in ("hub", "web"):
        assert f"CREATE DATABASE beamhub_{name} OWNER beamhub_{name}" in script
        assert f"REVOKE ALL ON DATABASE beamhub_{name} FROM PUBLIC;" in script


@pytest.fixture
def layout(tmp_path: Path) -> ComposeLayout:
    """An empty folder; the facility's files are not what this is about."""
    root = tmp_path / "facility-root"
    root.mkdir()
    return ComposeLayout(root)


def prepared(layout: ComposeLayout, settings: ComposeSettings = SETTINGS) -> None:
    """Prepare without the facility's files."""
    if not layout.made_file.exists():
        layout.made_file.write_text("{}")
        layout.truth_file.write_text("[]")
    prepare_compose(layout, settings)


def contents(layout: ComposeLayout) -> dict[str, tuple[bytes, int, int]]:
    """Every file with its owner and mode."""
    found = {}
    for path in sorted(layout.root.rglob("*")):
        if path.is_file():
            facts = path.stat()
            found[str(path)] = (path.read_bytes(), facts.st_uid, stat.S_IMODE(facts.st_mode))
    return found


@needs_root
def test_a_second_preparation_changes_nothing(layout: ComposeLayout) -> None:
    prepared(layout)
    first = contents(layout)
    prepared(layout)
    assert contents(layout) == first


@needs_root
def test_a_secret_belongs_to_its_service_alone(layout: ComposeLayout) -> None:
    prepared(layout)
    for name, homes in HOMES_OF_SECRETS.items():
        assert len({path.read_bytes() for path in layout.copies(name)}) == 1
        for home, path in zip(homes, layout.copies(name), strict=True):
            facts = path.stat()
            assert facts.st_uid == USERS.get(SHARED.get(home, home), 0)
            assert stat.S_IMODE(facts.st_mode) == 0o600
    calls_the_agent = layout.secrets / "gateway-and-hub" / "hub-key.pem"
    assert calls_the_agent.stat().st_uid == USERS["gateway"]
    everywhere = {path.name for path in (layout.secrets / "hub").iterdir()}
    assert "ca-key.pem" not in everywhere
    assert {path.parent.name for path in layout.secrets.rglob("ca-key.pem")} == {"authority"}


@needs_root
def test_a_lost_secret_is_named_and_none_is_made_in_its_place(layout: ComposeLayout) -> None:
    prepared(layout)
    layout.secret("hub-crypt-key").unlink()
    with pytest.raises(SecretMissing, match="backup") as caught:
        prepared(layout)
    assert caught.value.files == (layout.secret("hub-crypt-key"),)
    assert not layout.secret("hub-crypt-key").exists()


@needs_root
def test_people_keep_their_rows_when_the_provider_moves(layout: ComposeLayout) -> None:
    prepared(layout)
    prepared(
        layout,
        ComposeSettings("beamhub", SETTINGS.public_url, "http://identity.localhost:9003", SETTINGS.image),
    )
    text = (layout.user_office / "members.csv").read_text() + layout.identities_file.read_text()
    assert ":9003" in text
    assert ":8003" not in text
    assert read_config(layout.config_file).login.providers[0].issuer == "http://identity.localhost:9003"


@needs_root
def test_an_edited_configuration_is_kept_or_refused_but_never_overwritten(layout: ComposeLayout) -> None:
    prepared(layout)
    edited = layout.config_file.read_text().replace("Beamhub demo facility", "Our facility")
    layout.config_file.write_text(edited)
    prepared(layout)
    assert layout.config_file.read_text() == edited
    with pytest.raises(ConfigElsewhere, match="9000") as caught:
        prepared(layout, ComposeSettings("beamhub", "http://beamhub.localhost:9000", SETTINGS.issuer, "x"))
    assert len(caught.value.problems) == 1
    assert layout.config_file.read_text() == edited
    layout.config_file.write_text("name: 7\n")
    with pytest.raises(ConfigInvalid, match="name"):
        prepared(layout)


@needs_root
def test_a_folder_with_other_things_in_it_is_refused(layout: ComposeLayout) -> None:
    (layout.root / "thesis.tex").write_text("")
    with pytest.raises(RootUnusable, match=r"thesis\.tex") as caught:
        prepare_compose(layout, SETTINGS)
    assert caught.value.root == layout.root
    assert [path.name for path in layout.root.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("root", ["/", "/srv", "facility", "/nowhere/at/all"])
def test_a_root_that_is_none_is_refused(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--name=b", "--host=b.localhost", "--port=1", "--issuer=http://i.localhost:2", "--image=i"]
    assert main([f"--root={root}", *words, "--network-block=10.0.0.0/16"]) == 7
    said = capsys.readouterr().err
    assert repr(root) in said
    assert "BEAMHUB_FACILITY_ROOT" in said


def test_what_is_made_later_can_be_read_by_the_one_reader(tmp_path: Path) -> None:
    try:
        let_read(tmp_path, 7102)
    except OSError as error:
        pytest.skip(f"the file system of temporary folders keeps no access control lists: {error}")
    inner = tmp_path / "processed"
    inner.mkdir()
    inner.chmod(0o2770)
    kept = os.getxattr(inner, "system.posix_acl_access")
    assert (7102).to_bytes(4, "little") in kept
    assert stat.S_IMODE(inner.stat().st_mode) == 0o2770
