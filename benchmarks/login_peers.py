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
from pathlib import Path

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

    @script.setter
    def script(self, script: Script) -> None:
        """A shared script has no place here."""


def main() -> None:
    """Serve one role until a signal comes."""
    with ExitStack() as stack:
        if sys.argv[1] == "provider":
            provider = CrowdProvider()
            port = stack.enter_context(served(provider_handler(provider)))
            provider.issuer = f"http://127.0.0.1:{port}"
            ports = {"provider": port}
        else:
            handlers = {
                "web": WebDouble().handler(),
                "proxy": ProxyDouble().handler(),
                "plain_proxy": ProxyDouble().handler(),
            }
            ports = {name: stack.enter_context(served(handler)) for name, handler in handlers.items()}
        print(json.dumps(ports), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
