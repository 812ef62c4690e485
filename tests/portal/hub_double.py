"""A hub of our own on a real port: the few endpoints that the portal speaks to, every answer scriptable.

What it does not prove: that JupyterHub answers in the same way. `test_portal_real_hub.py` does, for the
login, the start and the stop.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

CLIENT_ID = "service-web"
ACCESS = "access:services!service=web"


@dataclass
class Server:
    """A server of the double; `messages` is what its start has said so far."""

    ready: bool = False
    pending: str | None = None
    display_name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class HubDouble:
    """The double's state; a test reads and changes it while the server runs."""

    callback: str
    client_secret: str
    person: str | None = None
    """Who is logged in at the hub, so whom an authorization is for; None: access is denied."""
    tokens: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    servers: dict[str, dict[str, Server]] = field(default_factory=dict)
    start_answer: tuple[int, str] | None = None
    """Status and message with which the next starts are refused."""
    broken: bool = False
    """Every answer is 500."""
    starts: int = 0
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def api_url(self) -> str:
        """What `web.hub_api_url` would be."""
        return f"http://127.0.0.1:{self.port}/hub/api"

    def token_for(self, account: str, *scopes: str) -> str:
        """A token as the account page of a hub gives out."""
        token = secrets.token_hex(16)
        self.tokens[token] = (account, scopes)
        return token

    def log_out(self, account: str) -> None:
        """What the hub does at logout: the tokens of the browser's session are gone."""
        self.person = None
        self.tokens = {token: known for token, known in self.tokens.items() if known[0] != account}


class RunningHub:
    """Starts and stops the server of a double."""

    def __init__(self, double: HubDouble) -> None:
        handler = type("Handler", (_Handler,), {"hub": double})
        self._server = ThreadingHTTPServer(("127.0.0.1", double.port), handler)
        self._server.daemon_threads = True
        double.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Free the port: whoever asks from now on gets no answer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubDouble

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_DELETE(self) -> None:
        self._route("DELETE")

    def _route(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = urlsplit(self.path).path.removeprefix("/hub/api")
        if self.hub.broken:
            return self._say(500, {"status": 500, "message": "Internal Server Error"})
        if (method, path) == ("GET", "/oauth2/authorize"):
            return self._authorize()
        if (method, path) == ("POST", "/oauth2/token"):
            return self._token()
        known = self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if known is None:
            return self._say(403, {"status": 403, "message": "Forbidden"})
        if (method, path) == ("GET", "/user"):
            return self._user(*known)
        found = re.fullmatch(r"/users/([^/]+)/servers/([^/]+)(/progress)?", path)
        if found is None or found[1] != known[0]:
            return self._say(404, {"status": 404, "message": "Not Found"})
        return self._server_route(method, known[0], found[2], progress=bool(found[3]))

    def _authorize(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        assert query["client_id"] == CLIENT_ID
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        answer = {"state": query["state"]}
        if self.hub.person is None:
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_hex(8)
            self.hub.codes[answer["code"]] = (self.hub.person, query["code_challenge"])
        self.send_response(302)
        self.send_header("Location", f"{self.hub.callback}?{urlencode(answer)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _token(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
        account, challenge = self.hub.codes.pop(form.get("code", ""), ("", ""))
        hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode() == challenge
        if not account or not proven or form.get("client_secret") != self.hub.client_secret:
            return self._say(400, {"error": "invalid_grant"})
        return self._say(200, {"access_token": self.hub.token_for(account, ACCESS), "token_type": "Bearer"})

    def _user(self, account: str, scopes: tuple[str, ...]) -> None:
        servers = self.hub.servers.get(account, {})
        models = {name: self._model(name, server) for name, server in servers.items()}
        self._say(200, {"name": account, "kind": "user", "scopes": list(scopes), "servers": models})

    def _server_route(self, method: str, account: str, name: str, *, progress: bool) -> None:
        servers = self.hub.servers.setdefault(account, {})
        server = servers.get(name)
        if method == "POST":
            return self._start(servers, name)
        if server is None:
            return self._say(404, {"status": 404, "message": "no such server"})
        if method == "DELETE":
            server.ready, server.pending = False, "stop"
            return self._say(202, None)
        if progress:
            return self._progress(server)
        return self._say(200, self._model(name, server))

    def _start(self, servers: dict[str, Server], name: str) -> None:
        self.hub.bodies.append(self.body)
        if self.hub.start_answer is not None:
            status, message = self.hub.start_answer
            return self._say(status, {"status": status, "message": message})
        server = servers.get(name)
        if server is not None and server.ready:
            return self._say(400, {"status": 400, "message": f"{name} is already running"})
        self.hub.starts += 1
        body = json.loads(self.body)
        told = [{"progress": 0, "message": "Server requested"}]
        servers[name] = Server(
            pending="spawn", display_name=body["display_name"], options=body["user_options"], messages=told
        )
        return self._say(202, None)

    def _progress(self, server: Server) -> None:
        """The story so far, then silence: the stream stays open as the hub's does while a start goes on."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in server.messages:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()
        if server.pending is None:
            return
        self.connection.settimeout(5)
        try:
            self.connection.recv(1)  # until the listener hangs up
        except OSError:
            return

    @staticmethod
    def _model(name: str, server: Server) -> dict[str, Any]:
        return {
            "name": name,
            "display_name": server.display_name,
            "ready": server.ready,
            "pending": server.pending,
            "stopped": not (server.ready or server.pending),
        }

    def _say(self, status: int, body: Any) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
