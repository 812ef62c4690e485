"""Names below `localhost` lead to this machine; browsers know that, the C library does not (RFC 6761)."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx

LOOPBACK = "127.0.0.1"


def is_local_name(host: str | None) -> bool:
    """Whether a host name is one that browsers take for this machine."""
    return host is not None and host.endswith(".localhost")


def connect_to(url: str) -> socket.socket:
    """A connection to the host of a URL."""
    parts = urlsplit(url)
    host = LOOPBACK if is_local_name(parts.hostname) else str(parts.hostname)
    return socket.create_connection((host, parts.port or 80), timeout=20)


class BrowserTransport(httpx.BaseTransport):
    """Sends requests where a browser would; the Host header keeps the name."""

    def __init__(self) -> None:
        # The proxy ends a connection that nobody used for five seconds; asking just then would fail.
        self._inner = httpx.HTTPTransport(limits=httpx.Limits(keepalive_expiry=2.0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to one request."""
        if is_local_name(request.url.host):
            request = httpx.Request(
                request.method,
                request.url.copy_with(host=LOOPBACK),
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()
