"""An OpenID provider that lies on demand: every answer can be scripted, everything else is correct.

A double of our own, because no real provider signs wrong tokens. What it does not prove: that a real
operator's answers look like its honest ones.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID = "beamhub test+client"
CLIENT_SECRET = "a secret/with=signs"
Signer = Callable[["HostileProvider", dict[str, Any]], str]
Wire = Callable[[BaseHTTPRequestHandler], None]


@functools.cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One key per name and test run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(name: str) -> bytes:
    """The public half, as anybody can have it."""
    return (
        rsa_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hand_made(header: dict[str, Any], claims: dict[str, Any], key: bytes | None) -> str:
    """A token that no library would make: any header, HMAC-SHA256 with any key, or no signature."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    signature = b"" if key is None else hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(signature)}"


def honest(provider: HostileProvider, claims: dict[str, Any], **header: Any) -> str:
    """A token as it should be."""
    headers = {"kid": provider.script.signing_key, **header}
    return jwt.encode(claims, rsa_key(provider.script.signing_key), algorithm="RS256", headers=headers)


@dataclass
class Script:
    """What the provider says next; a fresh one is honest."""

    subject: str = "ines"
    claims: dict[str, Any] = field(default_factory=dict)
    """Replaces ID-token claims; None removes one."""
    sign: Signer = honest
    signing_key: str = "first"
    published_keys: tuple[str, ...] = ("first",)
    extra_keys: list[dict[str, Any]] = field(default_factory=list)
    userinfo: dict[str, Any] = field(default_factory=dict)
    token_answer: dict[str, Any] = field(default_factory=dict)
    fault_for_good_tokens: int | None = None
    """Answer userinfo with this status where the token is a good one."""
    status: dict[str, int] = field(default_factory=dict)
    """Answer a path with an HTTP error."""
    location: dict[str, str] = field(default_factory=dict)
    """Answer a path with a redirect."""
    raw: dict[str, bytes] = field(default_factory=dict)
    """Answer a path with these bytes."""
    discovery: dict[str, Any] = field(default_factory=dict)
    response: dict[str, Any] = field(default_factory=dict)
    """Replaces parameters of the authorization response; None removes one."""
    response_tail: str = ""
    """Appended as it is to the address of the authorization response."""
    wire: dict[str, Wire] = field(default_factory=dict)
    """Answer a path by writing to the connection oneself."""
    id_token_in_refresh: bool = True


class HostileProvider:
    """The provider's state; one instance serves one hub."""

    def __init__(self) -> None:
        self.script = Script()
        self.codes: dict[str, dict[str, str]] = {}
        self.access: dict[str, str] = {}
        self.refresh: dict[str, str] = {}
        self.secrets_sent: list[str] = []
        self.requests: list[str] = []
        self.headers: list[tuple[str, str]] = []
        self.grants: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.issuer = ""
        self.ends = threading.Event()
        """Set when the provider goes: what drips without end ends then."""

    def reset(self) -> Script:
        """Be honest again; returns the script to change."""
        self.script = Script()
        self.secrets_sent.clear()
        self.requests.clear()
        self.headers.clear()
        self.grants.clear()
        self.forms.clear()
        return self.script

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return self.requests.count(path)

    def discovery(self) -> dict[str, Any]:
        """The discovery document."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout",
            **self.script.discovery,
        }

    def jwks(self) -> dict[str, Any]:
        """The published keys."""
        keys = []
        for name in self.script.published_keys:
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key()))
            keys.append({**key, "kid": name, "use": "sig"})
        return {"keys": [*self.script.extra_keys, *keys]}

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser goes back to."""
        code = secrets.token_urlsafe(24)
        self.codes[code] = query
        self.secrets_sent.append(code)
        answer = {"code": code, "state": query["state"], **self.script.response}
        sent = {key: value for key, value in answer.items() if value is not None}
        return f"{query['redirect_uri']}?{urlencode(sent)}{self.script.response_tail}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """The token endpoint: client, code, PKCE, then an answer as the script says."""
        self.forms.append(form)
        if not self._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        self.grants.append(form.get("grant_type", ""))
        if form.get("grant_type") == "refresh_token":
            subject = self.refresh.pop(form.get("refresh_token", ""), None)
            if subject is None:
                return 400, {"error": "invalid_grant"}
            return 200, self._tokens(None, with_id_token=self.script.id_token_in_refresh)
        request = self.codes.pop(form.get("code", ""), None)
        if request is None or form.get("redirect_uri") != request["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        verifier = form.get("code_verifier", "")
        if b64(hashlib.sha256(verifier.encode()).digest()) != request.get("code_challenge"):
            return 400, {"error": "invalid_grant", "error_description": "PKCE"}
        return 200, self._tokens(request.get("nonce"), with_id_token=True)

    def _is_client(self, form: dict[str, str], authorization: str) -> bool:
        if "client_secret" in form:
            sent = (form.get("client_id"), form["client_secret"])
            return not authorization and sent == (CLIENT_ID, CLIENT_SECRET)
        try:
            user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        except ValueError:
            return False
        return (unquote(user), unquote(password)) == (CLIENT_ID, CLIENT_SECRET)

    def _tokens(self, nonce: str | None, *, with_id_token: bool) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.access[access] = self.refresh[refresh] = self.script.subject
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": self.script.subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.script.claims,
        }
        claims = {key: value for key, value in claims.items() if value is not None}
        id_token = self.script.sign(self, claims)
        self.secrets_sent += [access, refresh, id_token[-40:], id_token[:60]]
        answer = {"access_token": access, "token_type": "Bearer", "refresh_token": refresh, "expires_in": 300}
        if with_id_token:
            answer["id_token"] = id_token
        answer |= self.script.token_answer
        return {key: value for key, value in answer.items() if value is not None}

    def userinfo(self, token: str) -> tuple[int, Any]:
        """What is said of the token's subject."""
        subject = self.access.get(token)
        if subject is None:
            return 401, {"error": "invalid_token"}
        if self.script.fault_for_good_tokens is not None:
            return self.script.fault_for_good_tokens, {"error": "server_error"}
        answer = {"sub": subject, "name": "Ines Ferreira", **self.script.userinfo}
        return 200, {key: value for key, value in answer.items() if value is not None}


class _Handler(BaseHTTPRequestHandler):
    provider: HostileProvider

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _is_scripted(self, path: str) -> bool:
        script = self.provider.script
        self.provider.requests.append(path)
        self.provider.headers += [(f"{path} {name.lower()}", value) for name, value in self.headers.items()]
        if path in script.wire:
            with contextlib.suppress(OSError):  # the hub may hang up
                script.wire[path](self)
            self.close_connection = True
        elif path in script.status:
            self._send(script.status[path], b'{"error":"server_error"}')
        elif path in script.location:
            self._send(302, b"", Location=script.location[path])
        elif path in script.raw:
            self._send(200, script.raw[path])
        else:
            return False
        return True

    def do_GET(self) -> None:
        """Discovery, keys, authorization, userinfo, logout."""
        url = urlsplit(self.path)
        if self._is_scripted(url.path):
            return
        status, answer = 404, None
        if url.path == "/.well-known/openid-configuration":
            status, answer = 200, self.provider.discovery()
        elif url.path == "/jwks":
            status, answer = 200, self.provider.jwks()
        elif url.path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = self.provider.userinfo(token)
        elif url.path == "/authorize":
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            self._send(302, b"", Location=self.provider.authorize(query))
            return
        elif url.path == "/logout":
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            status, answer = 200, {"logged_out": True, **query}
        self._send(status, json.dumps(answer).encode())

    def do_POST(self) -> None:
        """The token endpoint."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._is_scripted(urlsplit(self.path).path):
            return
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        status, answer = self.provider.token(form, self.headers.get("Authorization", ""))
        self._send(status, json.dumps(answer).encode())


def provider_handler(provider: HostileProvider) -> type[BaseHTTPRequestHandler]:
    """The request handler of one provider."""
    return type("Handler", (_Handler,), {"provider": provider})


@contextmanager
def hostile_provider() -> Iterator[HostileProvider]:
    """A provider on a free port of loopback."""
    provider = HostileProvider()
    with served(provider_handler(provider)) as port:
        provider.issuer = f"http://127.0.0.1:{port}"
        try:
            yield provider
        finally:
            provider.ends.set()


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A threaded HTTP server on a free port of loopback, gone at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
