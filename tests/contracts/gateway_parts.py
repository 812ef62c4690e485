"""A gateway for tests: the real process, before the stand-in for web, and sessions that may call it."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from dask_gateway import Gateway
from dask_gateway.auth import JupyterHubAuth

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.session import SessionPlan, SessionRequest
from beamhub_spawners.host_folders import check_and_ensure_folders
from beamhub_spawners.plan import session_plan
from beamhub_spawners.session_environment import token_digest
from contracts.spawner_parts import (
    EXPLAIN,
    GRANTED_PID,
    OCCASION,
    PLACE,
    facility_fields,
    granted_answer,
    make_facility,
    principal,
)
from contracts.web_stand_in import StandIn, starting_session

HOST = "127.0.0.1"
READY_S = 120.0


def free_ports(n: int, host: str = HOST) -> list[int]:
    """Ports on which nothing listened a moment ago."""
    taken = [socket.create_server((host, 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def gateway_fields(folder: Path, host: str = HOST, **changes: Any) -> dict[str, Any]:
    """The section of a gateway whose files lie below a folder."""
    listen, internal, metrics = free_ports(3)
    (folder / "secrets").mkdir(exist_ok=True, parents=True)
    (folder / "secrets/gateway-keys").write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    return {
        "listen_host": host,
        "listen_port": listen,
        "internal_port": internal,
        "metrics_port": metrics,
        "session_url": f"http://{host}:{listen}",
        "web_token_file": str(folder / "secrets/web-client"),
        "database_url": f"sqlite:///{folder}/gateway.sqlite",
        "keys_file": str(folder / "secrets/gateway-keys"),
        "state_folder": str(folder / "gateway"),
        "watch_s": 1.0,
        "token_cache_s": 1.0,
        **changes,
    }


def local_gateway_facility(folder: Path, stand_in: StandIn, **changes: Any) -> dict[str, Any]:
    """A facility of local places whose sessions may have two workers of one thread."""
    make_facility(folder)
    fields = facility_fields(folder, hub_url=stand_in.url, web_url=stand_in.url)
    fields["sessions"]["profiles"][0] |= {"cpu": 2, "memory_gib": 2, "workers": 2}
    # What an editable install puts on the path of every Python here, whichever checkout this is.
    rooms = [path for path in sys.path if path and Path(path).is_dir() and str(folder) not in path]
    fields["sessions"]["local_read_folders"] = [path for path in rooms if Path(path).is_absolute()]
    fields["gateway"] = gateway_fields(folder, **changes)
    return fields


@dataclass
class GatewayPart:
    """A gateway's configuration, its process, and the sessions that web tells it of."""

    folder: Path
    fields: dict[str, Any]
    stand_in: StandIn
    process: subprocess.Popen[bytes] | None = None
    clients: list[Any] = field(default_factory=list)

    @property
    def config(self) -> FacilityConfig:
        """The facility's configuration."""
        return FacilityConfig.model_validate(self.fields)

    @property
    def url(self) -> str:
        """Where sessions reach it."""
        return str(self.fields["gateway"]["session_url"])

    def session(self, subject: str = "ines", *, image: str | None = None) -> tuple[SessionPlan, str]:
        """A running session of a person, and its token."""
        config, token = self.config, secrets.token_hex(16)
        person = principal(subject)
        occasion = replace(OCCASION, plan_id=secrets.token_hex(16), now=utc_now())
        place = PLACE.model_copy(update={"backend": config.sessions.places[0].backend})
        request = SessionRequest(datasets=(GRANTED_PID,))
        answer = granted_answer(person.account)
        plan = session_plan(answer, request, config, person, (place, EXPLAIN), occasion)
        if image is not None:
            plan = plan.model_copy(update={"image": image})
        check_and_ensure_folders(plan, config)
        self.stand_in.sessions[plan.id] = starting_session(
            plan, state="running", token_digest=token_digest(token)
        )
        return plan, token

    def end_session(self, plan: SessionPlan) -> None:
        """Web says that a session has ended."""
        self.stand_in.update(plan.id, {"state": "ended"})

    def client(self, token: str) -> Any:
        """dask-gateway's own client, asynchronous."""
        return Gateway(self.url, auth=JupyterHubAuth(token), asynchronous=True)

    def metrics(self) -> dict[str, float]:
        """What its page of metrics says: each sample's name with its labels, to its value."""
        section = self.fields["gateway"]
        with urllib.request.urlopen(f"http://{HOST}:{section['metrics_port']}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        told = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in told}

    def start(self) -> None:
        """Start the process, and return when it answers."""
        file = self.folder / "facility.yaml"
        file.write_text(yaml.safe_dump(self.fields))
        log = (self.folder / "gateway.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "beamhub_spawners.dask_gateway", "--config", str(file)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until = time.monotonic() + READY_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                self.process.wait(20)
                self.process = None
                raise AssertionError(f"the gateway does not start:\n{self.log()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process as a fault would: at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process as an administrator would."""
        self._end(signal.SIGTERM)

    def log(self) -> str:
        """What it said."""
        return (self.folder / "gateway.log").read_text(errors="replace")

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None
            until = time.monotonic() + 10
            while self._answers(count_refusals=True) and time.monotonic() < until:
                time.sleep(0.05)  # the proxy ends when its standard input does

    def _answers(self, *, count_refusals: bool = False) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return count_refusals
        except OSError:
            return False


@contextmanager
def running_gateway(folder: Path, fields: dict[str, Any], stand_in: StandIn) -> Iterator[GatewayPart]:
    """A gateway that serves until the block ends; its parts end before it."""
    part = GatewayPart(folder, fields, stand_in)
    part.start()
    try:
        yield part
    finally:
        for stored in list(stand_in.sessions.values()):
            part.end_session(stored.plan)
        if part.process is None:
            part.start()
        end_parts(part)
        part.stop()


def end_parts(part: GatewayPart, timeout_s: float = 30.0) -> None:
    """Wait until no part is left; its session has ended."""
    until = time.monotonic() + timeout_s
    while parts_of(part):
        assert time.monotonic() < until, f"parts are left: {parts_of(part)}\n{part.log()[-3000:]}"
        time.sleep(0.1)


def parts_of(part: GatewayPart, plan_id: str = "*") -> list[Path]:
    """The folders of local parts that exist, of one session or of all."""
    return sorted((part.folder / "gateway/clusters").glob(f"{plan_id}/*/*"))
