"""What stands beside the measured hubs, in processes of their own: an honest provider, or web and proxies.

`python benchmarks/login_peers.py provider|doubles` prints its ports as JSON and serves until it is ended.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hub.hostile_provider import HostileProvider, Script, provider_handler, served
from hub.hub_parts import ProxyDouble, WebDouble

N_PEOPLE = 300


class CrowdProvider(HostileProvider):
    """An honest provider at which one of N_PEOPLE logs in each time; the person is the thread's."""

    def __init__(self) -> None:
        self._own = threading.local()
        super().__init__()

    @property
    def script(self) -> Script:
        """Honest, for the person who is logged in by this thread's one request."""
        if not hasattr(self._own, "script"):
            self._own.script = Script(subject=f"person-{random.randrange(N_PEOPLE)}")  # noqa: S311
        return self._own.script

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """Another person each time, also on a connection that is kept."""
        vars(self._own).pop("script", None)
        return super().token(form, authorization)

    @script.setter
    def script(self, script: Script) -> None:
        """A shared script has no place here."""


def keeping(handler: type[BaseHTTPRequestHandler]) -> type[BaseHTTPRequestHandler]:
    """The same handler with connections that are kept, as real servers keep them."""
    return type("Keeping", (handler,), {"protocol_version": "HTTP/1.1", "disable_nagle_algorithm": True})


def main() -> None:
    """Serve one role until a signal comes."""
    with ExitStack() as stack:
        if sys.argv[1] == "provider":
            provider = CrowdProvider()
            port = stack.enter_context(served(keeping(provider_handler(provider))))
            provider.issuer = f"http://127.0.0.1:{port}"
            ports = {"provider": port}
        else:
            handlers = {
                "web": WebDouble().handler(),
                "proxy": ProxyDouble().handler(),
                "plain_proxy": ProxyDouble().handler(),
            }
            ports = {
                name: stack.enter_context(served(keeping(handler))) for name, handler in handlers.items()
            }
        print(json.dumps(ports), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
