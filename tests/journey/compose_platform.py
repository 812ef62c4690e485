"""The platform of `compose.yaml`: brought up under a project of its own, and taken down again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beamhub_core.config import read_config
from beamhub_core.demo.compose import give_proposal
from beamhub_core.demo.compose_config import PLACE, WEB_PORT
from beamhub_core.demo.compose_layout import ComposeLayout
from beamhub_core.identity_table import read_identity_table
from journey.platform import REPOSITORY, Platform, free_block

NETWORK_BLOCK = "10.178.0.0/20"
UP_S = 240.0
SERVICES = ("database", "proxy", "provider", "web", "agent", "hub", "gateway")


def compose_command() -> list[str] | None:
    """Compose as a program of its own or as the engine's plugin, whichever is there; None for neither."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        return ["docker", "compose"] if asked.returncode == 0 else None
    return None


class Compose:
    """One project of `compose.yaml`, with variables of its own."""

    def __init__(self, project: str, root: Path, port: int, **variables: str) -> None:
        command = compose_command()
        if command is None:
            raise RuntimeError("neither 'docker-compose' nor 'docker compose' is there")
        self.project, self.root, self.port = project, root, port
        self._command = [*command, "--file", str(REPOSITORY / "compose.yaml")]
        self.variables = {
            "COMPOSE_PROJECT_NAME": project,
            "BEAMHUB_FACILITY_ROOT": str(root),
            "BEAMHUB_PORT": str(port),
            "BEAMHUB_LOGIN_PORT": str(port + 3),
            "BEAMHUB_NETWORK_BLOCK": NETWORK_BLOCK,
            **variables,
        }
        tag = os.environ.get("BEAMHUB_TAG")
        if tag:
            self.variables.setdefault("BEAMHUB_TAG", tag)
            self.variables.setdefault("BEAMHUB_SESSION_IMAGE", f"beamhub-base:{tag}")
            self.variables.setdefault("BEAMHUB_DATABASE_IMAGE", f"beamhub-postgresql:{tag}")

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command of Compose."""
        done = subprocess.run(
            [*self._command, *words],
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"compose {' '.join(words)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
            )
        return done

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.project}-{service}"

    def facts(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        return inspect(self.container(service))

    def logs(self) -> dict[str, str]:
        """What each service said."""
        return {
            service: self.run("logs", "--no-color", "--tail=60", service, check=False).stdout
            for service in ("prepare", *SERVICES)
        }

    def wait_until_well(self, *services: str, seconds: float = UP_S) -> None:
        """Return when each service's own check says that it is well.

        Raises
        ------
        TimeoutError
            With the services that are not.
        """
        deadline = time.monotonic() + seconds
        while True:
            states = {one: self.facts(one)["State"] for one in services or SERVICES}
            waiting = {
                one: f"{state['Status']}, {state.get('Health', {}).get('Status')}"
                for one, state in states.items()
                if state.get("Health", {}).get("Status") != "healthy"
            }
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not well after {seconds:.0f} s: {waiting}")
            time.sleep(0.5)

    def remove(self) -> None:
        """End the project, and the sessions that outlive it, as they should."""
        self.run("down", "--timeout", "5", check=False)
        label = f"label=org.beamhub.facility={self.project}"
        for kind, words in (("container", ["--all"]), ("network", [])):
            found = docker(kind, "ls", *words, "--quiet", "--filter", label).split()
            for one in found:
                force = ["--force", "--volumes"] if kind == "container" else []
                subprocess.run(["docker", kind, "rm", *force, one], capture_output=True, check=False)


def docker(*words: str) -> str:
    """What a command of the engine's client prints."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def inspect(container: str) -> dict[str, Any]:
    """What the engine says of a container."""
    facts: dict[str, Any] = json.loads(docker("container", "inspect", container))[0]
    return facts


class ComposePlatform(Platform):
    """Services in containers, sessions and their clusters through the agent."""

    places = (PLACE,)
    has_gateway = True

    def __init__(self, compose: Compose, setup_seconds: float) -> None:
        self.compose, self.layout = compose, ComposeLayout(compose.root)
        config = read_config(self.layout.config_file)
        self.url = config.hub.public_url.rstrip("/")
        self.issuer, self.short_name = config.login.providers[0].issuer, config.short_name
        self.setup_seconds = setup_seconds
        self.harvest = self.internal("POST", "/harvest", {})

    @property
    def web_url(self) -> str:
        """Web's container from this host, which reaches every bridge; no port of it is published."""
        networks = self.compose.facts("web")["NetworkSettings"]["Networks"]
        front = next(each for name, each in networks.items() if name.endswith("-front"))
        return f"http://{front['IPAddress']}:{WEB_PORT}"

    @property
    def hub_database(self) -> Path:
        """A file of PostgreSQL's."""
        return self.layout.state("database") / "pgdata" / "PG_VERSION"

    def hub_pid(self) -> int:
        """The hub itself: the child of its container's first process."""
        first = int(self.compose.facts("hub")["State"]["Pid"])
        for each in Path(f"/proc/{first}/task/{first}/children").read_text().split():
            return int(each)
        return first

    def server_pid(self, backend_id: str) -> int:
        """The first process of `container:ID`."""
        kind, _, container = backend_id.rpartition(":")
        return int(inspect(container)["State"]["Pid"]) if kind == "container" else 0

    def cluster_parts(self, plan_id: str) -> list[str]:
        """The roles that the labels of the session's containers name."""
        asked = ("ps", "--all", "--filter", f"label=org.beamhub.plan-id={plan_id}")
        return sorted(docker(*asked, "--format", '{{.Label "org.beamhub.role"}}').split())

    def take_in(self, proposal: Path, subject: str) -> None:
        """To the group that has the person's number; a facility makes one for each proposal."""
        people = read_identity_table(ComposeLayout(self.layout.root).identities_file)
        give_proposal(proposal, people[self.issuer, subject].gid or 0)


@contextlib.contextmanager
def compose_platform(root: Path, project: str = "beamhub-journey") -> Iterator[Platform]:
    """The platform of `compose.yaml` in a folder and a project of its own, until the block ends."""
    compose = Compose(project, root, free_block(29000))
    compose.remove()  # a run that was killed may have left one
    started = time.monotonic()
    try:
        compose.run("up", "--detach")
        compose.wait_until_well()
        yield ComposePlatform(compose, round(time.monotonic() - started, 1))
    except BaseException:
        for name, said in compose.logs().items():
            sys.stderr.write(f"--- {name}\n{said[-3000:]}\n")
        raise
    finally:
        compose.remove()
