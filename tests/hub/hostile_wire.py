"""Answers that are wrong below JSON: slow, endless, packed, cut, or with absurd headers."""

from __future__ import annotations

import gzip
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from hub.hostile_provider import Wire  # the folder of these tests, not the room

GIB = 2**30


def _provider(handler: BaseHTTPRequestHandler) -> Any:
    return handler.provider  # type: ignore[attr-defined]  # a class made for each provider


def _head(handler: BaseHTTPRequestHandler, **headers: str) -> None:
    handler.send_response(200)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Accept the request and say nothing until the provider goes."""
    _provider(handler).ends.wait()


def drip(handler: BaseHTTPRequestHandler) -> None:
    """One byte now and then, for ever: each read of the hub succeeds."""
    _head(handler)
    while not _provider(handler).ends.wait(0.2):
        handler.wfile.write(b" ")


def drip_of_headers(handler: BaseHTTPRequestHandler) -> None:
    """Headers that never end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not _provider(handler).ends.wait(0.2):
        handler.wfile.write(b"X-A: b\r\n")


def endless(handler: BaseHTTPRequestHandler) -> None:
    """As many bytes as the hub takes."""
    _head(handler)
    while not _provider(handler).ends.is_set():
        handler.wfile.write(b" " * 65536)


def chunks_without_end(handler: BaseHTTPRequestHandler) -> None:
    """The same in chunks."""
    handler.protocol_version = "HTTP/1.1"
    _head(handler, Transfer_Encoding="chunked")
    while not _provider(handler).ends.is_set():
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


def bomb(handler: BaseHTTPRequestHandler) -> None:
    """A GiB of spaces in one MiB of gzip, whatever the hub said that it accepts."""
    packed = gzip.compress(b" " * (GIB // 8), compresslevel=9)
    _head(handler, Content_Encoding="gzip")
    for _ in range(8):
        handler.wfile.write(packed)


def packed(answer: Any) -> Wire:
    """An honest answer in gzip, which the hub did not ask for."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, Content_Encoding="gzip")
        handler.wfile.write(gzip.compress(json.dumps(answer).encode()))

    return write


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Less than was announced."""
    _head(handler, Content_Length="1000")
    handler.wfile.write(b'{"sub": "ines"')


def huge_header(handler: BaseHTTPRequestHandler) -> None:
    """A header of 200 kB."""
    _head(handler, X_Long="x" * 200_000)
    handler.wfile.write(b"{}")


def no_http(handler: BaseHTTPRequestHandler) -> None:
    """Something that is not HTTP."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n" * 10)


def nothing(handler: BaseHTTPRequestHandler) -> None:
    """Hang up."""


def redirect_to_nonsense(handler: BaseHTTPRequestHandler) -> None:
    """A redirect whose target is no address."""
    handler.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: http://[::bad\xff]:x/\r\n\r\n")
