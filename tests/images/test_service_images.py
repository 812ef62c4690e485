"""The images of the platform's own services, run: what they hold, and that they need no right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parents[2]
HUB = os.environ.get("BEAMHUB_HUB_IMAGE", "beamhub-hub:dev")
WEB = os.environ.get("BEAMHUB_WEB_IMAGE", "beamhub-web:dev")
PROXY = os.environ.get("BEAMHUB_PROXY_IMAGE", "beamhub-proxy:dev")
CONFINED = [
    "docker",
    "run",
    "--rm",
    "--network",
    "none",
    "--read-only",
    "--tmpfs",
    "/tmp",  # noqa: S108
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "31337:31337",
]


def said(image: str, *command: str) -> str:
    """What a command prints in a container without rights, network and writable files, as any user."""
    known = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"no image {image}; see images/README.md")
    done = subprocess.run([*CONFINED, image, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        (HUB, "beamhub_hub.app, beamhub_spawners.docker_spawner, beamhub_spawners.sweeper, psycopg"),
        (WEB, "beamhub_portal.__main__, beamhub_catalogue.service, beamhub_reduction.nexus, psycopg"),
    ],
    ids=["hub", "web"],
)
def test_a_service_has_its_modules_and_nothing_to_install_with(image: str, modules: str) -> None:
    code = (
        f"import {modules}, importlib.util; print([importlib.util.find_spec(n) for n in ('pip', 'pytest')])"
    )
    assert said(image, "python", "-P", "-c", code).strip() == "[None, None]"
    assert "check" in said(image, "beamhub", "--help")


def test_a_service_holds_nothing_of_a_session() -> None:
    names = "import importlib.metadata as m; print(sorted(d.name.lower() for d in m.distributions()))"
    assert "jupyterlab" not in said(HUB, "python", "-P", "-c", names)
    of_web = said(WEB, "python", "-P", "-c", names)
    assert not [name for name in ("jupyterlab", "dask", "dockerspawner") if f"'{name}'" in of_web]


def test_the_proxy_is_the_locked_one() -> None:
    lock = json.loads((ROOT / "images" / "proxy" / "package-lock.json").read_text())
    assert (
        said(PROXY, "--version").strip()
        == lock["packages"]["node_modules/configurable-http-proxy"]["version"]
    )


def test_a_bill_of_materials_names_every_locked_package_and_is_the_same_twice() -> None:
    said(HUB, "true")
    command = [sys.executable, str(ROOT / "images" / "sbom.py"), HUB]
    first, second = (subprocess.run(command, check=True, capture_output=True).stdout for _ in range(2))
    assert first == second
    bom = json.loads(first)
    assert bom["bomFormat"] == "CycloneDX"
    held = {component["purl"] for component in bom["components"]}
    for line in (ROOT / "images" / "service" / "hub.lock").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            name, _, version = line.split(";")[0].strip(" \\").partition("==")
            assert f"pkg:pypi/{name}@{version}" in held
    assert any(purl.startswith("pkg:deb/debian/glibc@") for purl in held)
