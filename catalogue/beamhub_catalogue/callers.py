"""Who calls the internal API: processes by their configured tokens, sessions by their server's token."""

from __future__ import annotations

import hashlib
import hmac
import logging
from dataclasses import dataclass

from fastapi import HTTPException, Request

from beamhub_core.config.services import WebClientConfig

log = logging.getLogger(__name__)

MIN_TOKEN_CHARS = 16
MAX_TOKEN_CHARS = 512


@dataclass(frozen=True, slots=True)
class Client:
    """A process that may call, by the digest of its token."""

    name: str
    digest: bytes
    scopes: frozenset[str]


def read_clients(configs: tuple[WebClientConfig, ...]) -> tuple[Client, ...]:
    """The clients whose token files can be read; one without a usable token may do nothing."""
    clients = []
    for config in configs:
        try:
            token = config.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            log.error(
                "client token unreadable", extra={"client": config.name, "reason": type(error).__name__}
            )
            continue
        if not MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS:
            log.error("client token too short or too long", extra={"client": config.name})
            continue
        clients.append(Client(config.name, hashlib.sha256(token.encode()).digest(), frozenset(config.scopes)))
    return tuple(clients)


def bearer_token(request: Request) -> str:
    """The caller's token.

    Raises
    ------
    HTTPException
        401 when there is none, or none that could be one.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() not in ("bearer", "token") or not 0 < len(token) <= MAX_TOKEN_CHARS:
        raise HTTPException(401, "A bearer token is needed.", headers={"WWW-Authenticate": "Bearer"})
    return token


def check_scope(request: Request, clients: tuple[Client, ...], scope: str) -> Client:
    """The client that calls.

    Raises
    ------
    HTTPException
        401 for an unknown token, 403 for a known one without the scope.
    """
    digest = hashlib.sha256(bearer_token(request).encode()).digest()
    found: Client | None = None
    for client in clients:  # all of them, always: the time taken tells nothing
        if hmac.compare_digest(client.digest, digest):
            found = client
    if found is None:
        raise HTTPException(401, "This token is not known here.", headers={"WWW-Authenticate": "Bearer"})
    if scope not in found.scopes:
        raise HTTPException(403, f"The client {found.name} has not the scope {scope}.")
    return found
