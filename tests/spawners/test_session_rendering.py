"""From a plan to environment, view, container and configuration: pure parts and the image's files."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import DockerPlaceConfig
from beamhub_core.session import SessionInfo
from beamhub_core.word import digest
from beamhub_spawners.container_start import prepare
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import Ground, container_fields
from beamhub_spawners.local_spawner import LocalSessionSpawner
from beamhub_spawners.session_environment import OF_THE_HUB, session_environment, token_digest
from beamhub_spawners.session_server import LAB_SETTINGS, LAB_SETTINGS_FILE, SETTINGS
from beamhub_spawners.session_spawner import apply_user_options, principal_in
from beamhub_spawners.session_view import ENFORCED, session_info, view_links, write_view
from beamhub_spawners.wiring_hook import configure_spawner
from contracts.spawner_parts import ACCOUNT, TOKEN, docker_plan, facility_fields, make_facility, principal

IMAGES = Path(__file__).parents[2] / "images"
INFO = SessionInfo.model_validate(
    {
        "plan_id": "0" * 32,
        "plan_hash": "0" * 64,
        "account": ACCOUNT,
        "who": "Ines",
        "place": "hall-a",
        "datasets": [],
        "processed": {"MA-5101": "/data/MA-5101/processed"},
        "home": "/home/x",
        "template": None,
        "environment": "standard",
        "image": "local",
        "cluster_limits": {"max_workers": 2, "threads_per_worker": 1, "memory_gib": 2},
        "expires_at": "2026-11-21T12:00:00Z",
    }
)


@given(hub=st.dictionaries(st.text(max_size=20), st.text(max_size=20)))
def test_only_known_names_pass_from_the_hub_to_a_session(hub: dict[str, str]) -> None:
    made = session_environment(
        {**hub, "JUPYTERHUB_CRYPT_KEY": "secret", "JUPYTERHUB_USER": "u"},
        of_the_facility=frozenset({"SITE"}),
        of_the_plan={"OMP_NUM_THREADS": "2"},
        of_the_backend={"HOME": "/home/x"},
    )
    assert set(made) <= OF_THE_HUB | {"SITE", "OMP_NUM_THREADS", "HOME"}
    assert made["JUPYTERHUB_USER"] == "u"
    assert "secret" not in made.values()


def test_a_facilitys_own_variable_passes_but_does_not_win_over_the_plan() -> None:
    made = session_environment(
        {"SITE": "north", "OMP_NUM_THREADS": "64", "LANG": None},
        of_the_facility=frozenset({"SITE", "OMP_NUM_THREADS"}),
        of_the_plan={"OMP_NUM_THREADS": "2"},
        of_the_backend={},
    )
    assert made == {"LANG": "C.UTF-8", "SITE": "north", "OMP_NUM_THREADS": "2"}


names = st.text(min_size=1, max_size=30).filter(lambda name: "\0" not in name)


@given(proposals=st.lists(names, max_size=4), pids=st.lists(names, max_size=4, unique=True))
def test_no_name_leads_out_of_the_view(proposals: list[str], pids: list[str]) -> None:
    datasets = [
        {
            "pid": pid,
            "title": "t",
            "proposal": proposals[i % len(proposals)] if proposals else "..",
            "technique": "t",
            "instrument": "i",
            "file": f"/data/{i}/scan.h5",
        }
        for i, pid in enumerate(pids)
    ]
    fields = json.loads(INFO.model_dump_json()) | {
        "datasets": datasets,
        "processed": dict.fromkeys(proposals, "/data/p"),
    }
    links = view_links(SessionInfo.model_validate(fields))
    assert len(links) == 2 + len(pids) + len(set(proposals))
    for name in links:
        assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", part) for part in name.split("/"))


def test_a_view_can_be_written(tmp_path: Path) -> None:
    write_view(tmp_path, view_links(INFO))
    assert (tmp_path / "processed" / "MA-5101").readlink() == Path("/data/MA-5101/processed")


def test_a_container_writes_its_passwd_entry_session_file_and_view(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    info = INFO.model_copy(update={"home": str(home)})
    view = prepare(info, tmp_path / "run")
    assert f":{home}:/bin/bash" in (tmp_path / "run" / "passwd").read_text()
    assert SessionInfo.model_validate_json((tmp_path / "run" / "session.json").read_text()) == info
    assert (view / "notebooks").readlink() == home / "notebooks"
    assert (home / "notebooks").is_dir()


@pytest.fixture
def facility(tmp_path: Path) -> FacilityConfig:
    make_facility(tmp_path)
    return FacilityConfig.model_validate(
        facility_fields(tmp_path, hub_url="http://hub", web_url="http://web")
    )


def test_the_hub_gets_the_spawner_of_its_backend(facility: FacilityConfig) -> None:
    c = Config()
    assert configure_spawner(c, facility) is LocalSessionSpawner
    assert c.JupyterHub.spawner_class is LocalSessionSpawner
    assert c.Spawner.apply_user_options is apply_user_options
    assert LocalSessionSpawner.platform.config is facility
    assert TOKEN in LocalSessionSpawner.platform.web._http.headers["Authorization"]


def test_the_principal_comes_from_the_auth_state() -> None:
    ines = principal()
    assert principal_in({"principal": ines.model_dump(mode="json"), "id_token": "x"}) == ines
    assert principal_in(None) is None
    assert principal_in({"principal": {"account": "root"}}) is None


def test_a_container_carries_its_plan_and_no_token_in_labels() -> None:
    plan = docker_plan(uid=4711, gid=4712, gids=(4713,))
    environment = {"JUPYTERHUB_API_TOKEN": "secret-token"}
    place = DockerPlaceConfig(url="unix:///x", unsafe_direct_socket=True)
    ground = Ground("bridge")
    fields = container_fields(plan, place, facility="demo", environment=environment, ground=ground)
    labels, host = fields.body["Labels"], fields.body["HostConfig"]
    assert labels[f"{LABEL}plan-hash"] == digest(plan)
    assert labels[f"{LABEL}token-digest"] == token_digest("secret-token")
    assert "secret-token" not in json.dumps(labels)
    assert fields.body["User"] == "4711:4712"
    assert host["GroupAdd"] == ["4713"]
    assert all(mount["BindOptions"] == {"NonRecursive": True} for mount in host["Mounts"])
    variables = dict(line.split("=", 1) for line in fields.body["Env"])
    assert variables["OMP_NUM_THREADS"] == "2"
    said = SessionInfo.model_validate_json(variables["BEAMHUB_SESSION_INFO"])
    assert said == session_info(plan, enforced=ENFORCED)
    for number in (None, 0):
        with pytest.raises(ValueError, match="no numeric identity"):
            nobody = plan.model_copy(update={"uid": number})
            container_fields(nobody, place, facility="demo", environment=environment, ground=ground)


def test_the_image_configures_servers_as_the_local_spawner_does() -> None:
    assert json.loads((IMAGES / "base" / "jupyter_server_config.json").read_text()) == SETTINGS
    lab_settings = IMAGES / "base" / PurePosixPath(LAB_SETTINGS_FILE).name
    assert json.loads(lab_settings.read_text()) == LAB_SETTINGS
