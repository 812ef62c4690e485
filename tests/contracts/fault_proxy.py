"""A proxy of the tests' own before an engine's socket: it passes, cuts, delays, mutes or answers 500.

What is changed counts for connections that are open, too: a muted one stays open and says nothing more.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

Fault = Literal["none", "cut", "mute", "500", "delay"]
TICK_S = 0.05
FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 27\r\n"
    b'Connection: close\r\n\r\n{"message": "out of order"}'
)


class FaultProxy:
    """One proxy on a unix socket before another; `fault` may be set at any time.

    Parameters
    ----------
    listen, upstream:
        Where it listens, and what it stands before.
    """

    def __init__(self, listen: Path, upstream: Path) -> None:
        self.listen, self.upstream = listen, upstream
        self.fault: Fault = "none"
        self.delay_s = 0.5
        self.n_connections = 0
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """As docker's client names it."""
        return f"unix://{self.listen}"

    def serve(self) -> None:
        """Take connections until closed."""
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(str(self.listen))
            server.listen(64)
            server.settimeout(TICK_S)
            self._ready.set()
            while not self._is_over.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                self.n_connections += 1
                thread = threading.Thread(target=self._pass_on, args=(client,), name="fault-proxy")
                thread.start()
                self._threads.append(thread)
        for thread in self._threads:
            thread.join(10)

    def _pass_on(self, client: socket.socket) -> None:
        with closing(client), closing(socket.socket(socket.AF_UNIX)) as engine:
            engine.connect(str(self.upstream))
            while not self._is_over.is_set():
                readable, _, _ = select.select([client, engine], [], [], TICK_S)
                if self.fault == "mute":
                    self._is_over.wait(TICK_S)
                    continue
                for source in readable:
                    if self.fault == "cut":
                        return
                    part = source.recv(65_536)
                    if not part:
                        return
                    if self.fault == "500" and source is client:
                        client.sendall(FAILED)
                        return
                    if self.fault == "delay":
                        time.sleep(self.delay_s)
                    (engine if source is client else client).sendall(part)

    def __enter__(self) -> FaultProxy:
        self._ready = threading.Event()
        self._server = threading.Thread(target=self.serve, name="fault-proxy-server")
        self._server.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._server.join(15)
        self.listen.unlink(missing_ok=True)


@contextmanager
def fault_proxy(listen: Path, upstream: Path) -> Iterator[FaultProxy]:
    """A proxy that serves until the block ends."""
    with FaultProxy(listen, upstream) as proxy:
        yield proxy
