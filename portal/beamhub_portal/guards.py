"""What holds for every answer and every request, whatever route takes it: plain ASGI layers."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)
MAX_BODY_BYTES = 64 * 1024
MAX_INTERNAL_BODY_BYTES = 4 * 1024 * 1024  # a plan of 64 datasets with its mounts


class SecurityHeaders:
    """Adds the security headers to every answer; a route's own value wins."""

    def __init__(self, app: ASGIApp, *, secure: bool, static_path: str) -> None:
        self._app, self._static_path = app, static_path.split("/")
        headers = (*HEADERS, ("strict-transport-security", "max-age=31536000")) if secure else HEADERS
        self._headers = [(name.encode(), value.encode()) for name, value in headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer's headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        static = scope["path"].split("/")[: len(self._static_path)] == self._static_path
        cached = b"public, max-age=86400" if static else b"no-store"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in self._headers if pair[0] not in present]
                if b"cache-control" not in present:
                    added.append((b"cache-control", cached if message["status"] == 200 else b"no-store"))
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyBound:
    """Answers 413 to a body that is larger than any of ours, counted while it arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or stop it at its limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        internal = scope["path"].split("/")[1:2] == ["internal"]
        limit = MAX_INTERNAL_BODY_BYTES if internal else MAX_BODY_BYTES
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 12 or int(declared) > limit:
            await _plain_answer(send, 413, b"The request body is too large.")
            return
        received, answered = 0, False

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, bounded_receive, watched_send)
        except _TooLarge:
            if not answered:
                await _plain_answer(send, 413, b"The request body is too large.")


class _TooLarge(Exception):
    """More body than the limit arrived."""


FaultPage = Callable[[Scope, Receive, Send, str], Awaitable[None]]


class FaultGuard:
    """The outermost layer of ours: an unknown error becomes a page with a reference, its text a log line."""

    def __init__(self, app: ASGIApp, *, page: FaultPage) -> None:
        self._app, self._page = app, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer 500 for what nobody caught."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            reference = new_reference()
            log.exception(
                "request failed [reference %s] %s %s", reference, scope["method"], scope["path"][:200]
            )
            if not answered:
                await self._page(scope, receive, send, reference)


def new_reference() -> str:
    """A short word that a page shows and a log line holds."""
    return secrets.token_hex(4)


async def _plain_answer(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]}
    )
    await send({"type": "http.response.body", "body": text})
