"""An agent for tests: the real one, with real certificates, in a thread of the test's own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_spawners.agent import RunningAgent, serving_agent
from beamhub_spawners.agent_certificates import HUB_SUBJECT, make_certificates

HOST = "127.0.0.1"


def agent_fields(folder: Path, *, place: str, socket_file: Path, **changes: Any) -> dict[str, Any]:
    """The fields of an `agent.yaml` whose certificates and token lie below a folder."""
    return {
        "facility_file": str(folder / "facility.yaml"),
        "place": place,
        "engine_socket": str(socket_file),
        "listen": {"host": HOST, "port": 0, "accepted_subjects": [HUB_SUBJECT]},
        "tls": {
            "ca_file": str(folder / "tls/ca.pem"),
            "cert_file": str(folder / f"tls/agent-{HOST}.pem"),
            "key_file": str(folder / f"tls/agent-{HOST}-key.pem"),
        },
        "web_token_file": str(folder / "secrets/web-client"),
        **changes,
    }


def make_agent_files(folder: Path) -> None:
    """Certificates for the loopback, below `tls`."""
    make_certificates(folder / "tls", (HOST,), now=utc_now())


def hub_tls(folder: Path) -> dict[str, str]:
    """The hub's side, as a place's `tls` section."""
    names = {"ca_file": "ca.pem", "cert_file": "hub.pem", "key_file": "hub-key.pem"}
    return {key: str(folder / "tls" / name) for key, name in names.items()}


def hub_context(folder: Path, name: str | None = "hub") -> ssl.SSLContext:
    """A client's context with the pair of a name, or with none."""
    context = ssl.create_default_context(cafile=str(folder / "tls/ca.pem"))
    if name is not None:
        context.load_cert_chain(str(folder / f"tls/{name}.pem"), str(folder / f"tls/{name}-key.pem"))
    return context


def free_port() -> int:
    """A port of the loopback on which nothing listened a moment ago."""
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running_agent(config: AgentConfig, facility: FacilityConfig) -> Iterator[RunningAgent]:
    """An agent that serves until the block ends, in a thread with a loop of its own."""
    started: threading.Event = threading.Event()
    state: dict[str, Any] = {}

    async def serve() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        async with serving_agent(config, facility) as agent:
            state["agent"] = agent
            started.set()
            await state["stop"].wait()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            state["error"] = error
            raise
        finally:
            started.set()

    thread = threading.Thread(target=work, name="agent")
    thread.start()
    assert started.wait(30)
    if "agent" not in state:
        thread.join(10)
        raise AssertionError(f"the agent did not start: {state.get('error')!r}")
    try:
        yield state["agent"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(30)
        assert not thread.is_alive()
