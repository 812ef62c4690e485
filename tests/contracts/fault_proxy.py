"""A proxy of the tests' own before an engine or an API server: it passes, cuts, delays, mutes or refuses.

What is changed counts for connections that are open, too: a muted one stays open and says nothing more.
Before a TLS server it speaks plain HTTP to its own side, so that it can answer 500 or 410 itself.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

Fault = Literal["none", "cut", "mute", "500", "410", "delay", "refuse"]
Address = Path | tuple[str, int]
TICK_S = 0.05


def _answer(status: int, words: str, message: str) -> bytes:
    body = (
        f'{{"kind": "Status", "status": "Failure", "code": {status}, "reason": "{words.replace(" ", "")}", '
        f'"message": "{message}"}}'
    )
    head = f"HTTP/1.1 {status} {words}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


ANSWERS = {
    "500": _answer(500, "Internal Server Error", "out of order"),
    "410": _answer(410, "Expired", "too old resource version"),
}


class FaultProxy:
    """One proxy before another server; `fault` may be set at any time.

    Parameters
    ----------
    listen, upstream:
        Where it listens, and what it stands before: files of sockets, or hosts and ports. A port 0 takes a
        free one, which `listen` then has.
    tls:
        How to speak to an upstream with TLS; plain when absent.
    """

    def __init__(self, listen: Address, upstream: Address, tls: ssl.SSLContext | None = None) -> None:
        self.listen, self.upstream = listen, upstream
        self._tls = tls
        self.fault: Fault = "none"
        self.delay_s = 0.5
        self.n_connections = 0
        self.n_requests = 0
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """As clients name it."""
        if isinstance(self.listen, Path):
            return f"unix://{self.listen}"
        return f"http://{self.listen[0]}:{self.listen[1]}"

    def serve(self) -> None:
        """Take connections until closed; while it refuses, nothing listens."""
        while not self._is_over.is_set():
            if self.fault == "refuse":
                self._is_over.wait(TICK_S)
                continue
            with closing(self._listening()) as server:
                self._ready.set()
                self._accept(server)
        for thread in self._threads:
            thread.join(10)

    def _listening(self) -> socket.socket:
        if isinstance(self.listen, Path):
            self.listen.unlink(missing_ok=True)
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(self.listen))
            server.listen(64)
        else:
            server = socket.create_server(self.listen, backlog=64)
            self.listen = (self.listen[0], server.getsockname()[1])
        server.settimeout(TICK_S)
        return server

    def _accept(self, server: socket.socket) -> None:
        while not self._is_over.is_set() and self.fault != "refuse":
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            self.n_connections += 1
            thread = threading.Thread(target=self._pass_on, args=(client,), name="fault-proxy")
            thread.start()
            self._threads.append(thread)

    def _connected(self) -> socket.socket:
        if isinstance(self.upstream, Path):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.upstream))
            return server
        plain = socket.create_connection(self.upstream, 10)
        return self._tls.wrap_socket(plain, server_hostname=self.upstream[0]) if self._tls else plain

    def _pass_on(self, client: socket.socket) -> None:
        with suppress(OSError), closing(client), closing(self._connected()) as engine:
            while not self._is_over.is_set():
                is_waiting = isinstance(engine, ssl.SSLSocket) and engine.pending() > 0
                readable, _, _ = select.select([client, engine], [], [], 0 if is_waiting else TICK_S)
                if is_waiting and engine not in readable:
                    readable.append(engine)
                if self.fault == "mute":
                    self._is_over.wait(TICK_S)
                    continue
                if self.fault == "refuse":
                    return
                for source in readable:
                    if self.fault == "cut":
                        return
                    part = source.recv(65_536)
                    if not part:
                        return
                    self.n_requests += source is client
                    if self.fault in ANSWERS and source is client:
                        client.sendall(ANSWERS[self.fault])
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
        if isinstance(self.listen, Path):
            self.listen.unlink(missing_ok=True)


@contextmanager
def fault_proxy(
    listen: Address, upstream: Address, tls: ssl.SSLContext | None = None
) -> Iterator[FaultProxy]:
    """A proxy that serves until the block ends."""
    with FaultProxy(listen, upstream, tls) as proxy:
        yield proxy
