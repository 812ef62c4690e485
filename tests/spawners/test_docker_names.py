"""Names and mounts on the real engine, with the mounts that plans are made of."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from beamhub_core.clock import utc_now
from beamhub_core.config.storage import PoolConfig
from beamhub_core.rights import PoolPath
from beamhub_core.session import Mount
from beamhub_spawners.mount_names import unmountable
from beamhub_spawners.mounts import _mount, choose_mounts
from contracts.spawner_parts import granted_answer

pytestmark = pytest.mark.docker
IMAGE = os.environ.get("BEAMHUB_BASE_IMAGE", "beamhub-base:dev")
LABEL = "org.beamhub.test.names"
SEED = 7_707
N_NAMES = 48
LETTERS = ":,{}%$'\"\\|=;&*?<>#~()[]!^` .-aZ09éß中日ไทยא😀\u0301\u200b\u2028"
CHOSEN = (
    "a:b,c",
    "{username.x} {} {0}",
    "trailing  ",
    " leading",
    "x" * 255,
    "é" * 127,
    "e\u0301 and é",
    "quote\"'back\\slash",
    "-v --privileged",
    "dollar$(id)`id`",
    ":ro",
    "/".join(["deep" * 15] * 5),  # 304 characters
    "/".join(["中" * 25] * 4),
)
READ = """
import json, pathlib, sys
said = []
for name in json.loads(sys.argv[1]):
    file = pathlib.Path("/data/p/P1", name, "file")
    try:
        text = file.read_text()
    except OSError as error:
        text = type(error).__name__
    try:
        file.write_text("x")
        text = "written"
    except OSError:
        pass
    said.append(text)
print(json.dumps(said))
"""


@pytest.fixture
def engine() -> Iterator[Any]:
    try:
        client = docker.APIClient(base_url="unix:///var/run/docker.sock", version="auto", timeout=120)
        client.inspect_image(IMAGE)
    except ImageNotFound:
        client.close()
        pytest.skip(f"no image {IMAGE}; build it from images/base/Dockerfile")
    except DockerException as error:
        pytest.skip(f"no Docker engine answers ({type(error).__name__})")
    mine = f"{LABEL}={secrets.token_hex(4)}"
    client.mine = mine
    yield client
    for container in client.containers(all=True, filters={"label": mine}):
        client.remove_container(container["Id"], force=True, v=True)
    client.close()


def names() -> list[str]:
    """A bounded, seeded sample of awkward names, and those that once were a problem somewhere."""
    chance = random.Random(SEED)  # noqa: S311 - no secret
    drawn = ("".join(chance.choices(LETTERS, k=chance.randint(1, 60))) for _ in range(4 * N_NAMES))
    plain = [name for name in drawn if name.strip(".") and unmountable(name) is None]
    return list(dict.fromkeys([*CHOSEN, *plain]))[: N_NAMES + len(CHOSEN)]


def bind(mount: Mount, **options: Any) -> dict[str, Any]:
    """As the renderer has it; its own form is tested where it is made."""
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.mode == "ro",
        "BindOptions": options or {"NonRecursive": True},
    }


def begun(engine: Any, mounts: list[dict[str, Any]], *, user: str) -> str:
    """A container that only sleeps, with some mounts."""
    label, value = engine.mine.split("=")
    body = {
        "Image": IMAGE,
        "User": user,
        "Entrypoint": ["sleep", "300"],
        "Cmd": [],
        "Labels": {label: value},
        "HostConfig": {"Mounts": mounts, "NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"]},
    }
    container = str(engine.create_container_from_config(body)["Id"])
    engine.start(container)
    return container


def look(engine: Any, container: str, *command: str) -> str:
    made = engine.exec_create(container, list(command))
    said = str(engine.exec_start(made["Id"]).decode())
    assert engine.exec_inspect(made["Id"])["ExitCode"] == 0, said
    return said.splitlines()[-1] if said else ""


def pool(root: Path, **changes: Any) -> PoolConfig:
    return PoolConfig.model_validate({"name": "p", "root": root, "target": "/data/p", **changes})


def raw(root: Path, path: str, **changes: Any) -> Mount:
    pools = {"p": pool(root, **changes)}
    return _mount(PoolPath(pool="p", path=path), pools, mode="ro", proposal="P1", pid=None)


def test_every_name_that_is_not_refused_is_mounted_exactly(engine: Any, tmp_path: Path) -> None:
    asked = names()
    for i, name in enumerate(asked):
        (tmp_path / "P1" / name).mkdir(parents=True)
        (tmp_path / "P1" / name / "file").write_text(str(i))
        (tmp_path / "P1" / name / "file").chmod(0o666)
    assert len(asked) > 40
    owner = tmp_path.stat()
    mounts = [bind(raw(tmp_path, f"P1/{name}")) for name in asked]
    container = begun(engine, mounts, user=f"{owner.st_uid}:{owner.st_gid}")
    said = json.loads(look(engine, container, "python", "-c", READ, json.dumps(asked)))
    assert said == [str(i) for i in range(len(asked))]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount file systems")
def test_what_an_automounter_mounts_later_appears_read_only(engine: Any, tmp_path: Path) -> None:
    """With `propagation: host_to_container` and `access: ro`, as on an automounter's root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", tmp_path], check=True)
    subprocess.run(["mount", "--make-shared", tmp_path], check=True)
    later = tmp_path / "P1" / "later"
    later.mkdir(parents=True)
    try:
        mount = raw(tmp_path, "P1", access="ro", propagation="host_to_container")
        assert mount.propagation == "host_to_container"
        container = begun(engine, [bind(mount, Propagation="rslave")], user="0:0")
        assert look(engine, container, "ls", "/data/p/P1/later") == ""
        export = tmp_path / "export"  # read-only as a whole, before it is mounted where sessions see it
        export.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", export], check=True)
        (export / "file").write_text("here")
        subprocess.run(["mount", "-o", "remount,ro", export], check=True)
        subprocess.run(["mount", "--bind", export, later], check=True)
        assert look(engine, container, "cat", "/data/p/P1/later/file") == "here"
        attempt = "touch /data/p/P1/later/x 2>/dev/null && echo written || echo refused"
        assert look(engine, container, "sh", "-c", attempt) == "refused"
        engine.remove_container(container, force=True)
    finally:
        subprocess.run(["umount", "-R", "-l", tmp_path], check=True)


def test_a_writable_folder_inside_a_read_only_one_is_mounted_after_it(engine: Any, tmp_path: Path) -> None:
    """As when a whole proposal is mounted and its processed folder may be written."""
    for name in ("P1/raw", "P1/processed"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).chmod(0o777)
    grants = [
        granted_answer()
        .grants[0]
        .model_copy(update={"folder": PoolPath(pool="p", path=path), "mode": mode, "proposal": "P1"})
        for path, mode in (("P1", "ro"), ("P1/processed", "rw"))
    ]
    dataset = (
        granted_answer()
        .datasets[0]
        .model_copy(update={"folder": PoolPath(pool="p", path="P1"), "link_closure": ()})
    )
    answer = granted_answer().model_copy(update={"datasets": (dataset,), "grants": tuple(grants)})
    chosen = choose_mounts(answer, {"p": pool(tmp_path)}, at=utc_now())
    assert [(mount.path, mount.mode) for mount in chosen.mounts] == [("P1", "ro"), ("P1/processed", "rw")]
    container = begun(engine, [bind(mount) for mount in chosen.mounts], user="1234:1234")
    for folder, outcome in (("raw", "refused"), ("processed", "written")):
        attempt = f"touch /data/p/P1/{folder}/x 2>/dev/null && echo written || echo refused"
        assert look(engine, container, "sh", "-c", attempt) == outcome
    assert (tmp_path / "P1/processed/x").exists()
