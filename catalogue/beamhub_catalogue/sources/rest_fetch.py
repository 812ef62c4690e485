"""One answer over HTTP, with a deadline for the whole of it and bounds on everything."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

MAX_TOKEN_CHARS = 8_192


class FetchFailed(Exception):
    """An answer that did not come as it must; `reason` repeats nothing of the other side, and no token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Stream(Protocol):
    def get_extra_info(self, info: str) -> Any: ...


class Deadline:
    """Ends whatever its connections do when the time is over.

    The time limits of an HTTP client hold for one read each, so that a server which sends a byte now and
    then is never too slow, least of all in its headers. The connection is shut down under the client instead.
    """

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()  # protects `_sockets` between client and timer
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True

    @property
    def remaining_s(self) -> float:
        """Seconds that are left, never less than a moment."""
        return max(self._ends - time.monotonic(), 0.001)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._ends

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Learn of new connections; httpx calls it as a request's `trace` extension."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream: _Stream = info["return_value"]
            with self._lock:
                self._sockets.append(stream.get_extra_info("socket"))
            if self.is_over:
                self._shut_down()

    def _shut_down(self) -> None:
        with self._lock:
            for connection in self._sockets:
                # The plain socket's: TLS would want to say goodbye first. One that TLS took over is closed.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 with its body, or a 304 without."""

    body: bytes | None
    etag: str | None


@dataclass(slots=True)
class Fetcher:
    """Asks one server, within one deadline and one number of bytes for all answers together."""

    client: httpx.Client
    deadline: Deadline
    max_answer_bytes: int
    bytes_left: int
    token: str | None = None

    def get(self, url: str, params: dict[str, str], etag: str | None = None) -> Answer:
        """The answer to a question.

        Raises
        ------
        FetchFailed
            If it is no answer, or none that could be taken.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if etag is not None:
            headers["If-None-Match"] = etag
        try:
            with self.client.stream(
                "GET",
                url,
                params=params,
                headers=headers,
                timeout=self.deadline.remaining_s,
                extensions={"trace": self.deadline.trace},
            ) as response:
                return self._taken(response, asked_for=etag)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchFailed(self._why(error)) from None

    def _taken(self, response: httpx.Response, asked_for: str | None) -> Answer:
        status = response.status_code
        if status == 304 and asked_for is not None:
            return Answer(None, asked_for)
        if status in (401, 403):
            raise FetchFailed(f"refuses us ({status}): is the token right?")
        if 300 <= status < 400 and status != 304:
            raise FetchFailed(f"sends us elsewhere ({status}), and redirects are not followed")
        if status != 200:
            raise FetchFailed(f"answers with status {status}")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise FetchFailed("answers with another type than application/json")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise FetchFailed("answers compressed, which was not asked for")
        return Answer(b"".join(self._bounded(response)), _etag(response))

    def _bounded(self, response: httpx.Response) -> Iterator[bytes]:
        self.bytes_left -= (left := min(self.bytes_left, self.max_answer_bytes))
        for piece in response.iter_raw():
            left -= len(piece)
            if left < 0:
                raise FetchFailed("says more bytes than are read of it")
            if self.deadline.is_over:
                raise FetchFailed("takes too long for its whole answer")
            yield piece
        self.bytes_left += left

    def _why(self, error: Exception) -> str:
        """In our words: those of the error may repeat what the server sent."""
        if self.deadline.is_over or isinstance(error, httpx.TimeoutException):
            return "takes too long for its whole answer"
        if isinstance(error, httpx.ConnectError):
            return "cannot be reached"
        if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
            return "broke off its answer, or speaks no HTTP"
        return f"cannot be asked ({type(error).__name__})"


def new_client(url: str) -> httpx.Client:
    """A client that follows nobody and takes nothing from the environment; the machine's CAs are trusted."""
    is_tls = url.startswith("https:")  # to read all CAs takes a while, and plain HTTP needs none
    trust = ssl.create_default_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(verify=trust, trust_env=False, follow_redirects=False)


def read_token(path: Path) -> str:
    """The token in a file.

    Raises
    ------
    FetchFailed
        If there is none; the reason holds nothing of the file.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKEN_CHARS + 1)
    except OSError as error:
        raise FetchFailed(f"cannot be asked: its token file cannot be read ({error.strerror})") from None
    token = raw.decode("latin-1").strip()
    if not 0 < len(token) <= MAX_TOKEN_CHARS or any(not "!" <= c <= "~" for c in token):
        raise FetchFailed("cannot be asked: its token file holds no token of plain characters")
    return token


def _etag(response: httpx.Response) -> str | None:
    """The answer's entity tag, where it is one that can be sent back."""
    tag: str = response.headers.get("etag", "")
    fits = 0 < len(tag) <= 200 and all("!" <= c <= "~" for c in tag)
    return tag if fits else None
