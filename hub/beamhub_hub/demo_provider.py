"""The demo's identity provider: a real OpenID provider without passwords, for one machine.

`python -m beamhub_hub.demo_provider --port P --accounts accounts.json --client-secret-file F
--redirect-uri URL` serves oidc-provider-mock with one registered client, on loopback unless `--host` says
otherwise. What that library leaves open for tests (registering clients, changing people, its debugger) is
shut, and PKCE and the addresses after a logout are checked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import logging
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import Field

from beamhub_core.demo.people import CLIENT_ID, PEOPLE
from beamhub_core.word import Word
from beamhub_hub.secret_files import read_secret
from beamhub_hub.static_files import PACKAGE_FOLDER

if TYPE_CHECKING:
    import flask

HOST = "127.0.0.1"
TOKEN_AGE = timedelta(hours=12)
SCOPES = ("openid", "profile", "email", "eduperson_entitlement", "voperson_id")
_OPEN_PATHS = frozenset(
    (
        "/.well-known/openid-configuration",
        "/jwks",
        "/oauth2/authorize",
        "/oauth2/token",
        "/oauth2/end_session",
        "/oauth2/end_session/confirm",
        "/userinfo",
    )
)
_MAX_CODES = 1000


class DemoAccount(Word):
    """Somebody who can log in."""

    subject: str = Field(min_length=1, max_length=255)
    name: str
    claims: dict[str, Any]


class DemoAccounts(Word):
    """The file of the demo's people."""

    issuer_url: str
    users: tuple[DemoAccount, ...]


def demo_accounts(issuer: str) -> DemoAccounts:
    """The demo's people at an issuer, with their claims in AARC's form."""
    users = (DemoAccount(subject=p.subject, name=p.name, claims=p.claims()) for p in PEOPLE)
    return DemoAccounts(issuer_url=issuer, users=tuple(users))


def build_app(accounts: DemoAccounts, *, client_secret: str, redirect_uri: str) -> flask.Flask:
    """The provider as a WSGI application."""
    # Authlib refuses http except on the name 'localhost'; this provider listens on loopback only.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    import oidc_provider_mock  # optional: only the demo's extra brings it
    from jinja2 import ChoiceLoader, FileSystemLoader

    app: flask.Flask = oidc_provider_mock.app(
        require_client_registration=True,
        require_nonce=True,
        access_token_max_age=TOKEN_AGE,
        user_claims=[
            oidc_provider_mock.User(sub=user.subject, claims=user.claims) for user in accounts.users
        ],
    )
    # The library serves its debugger, which runs code for whoever reaches the port.
    app.debug = False
    app.wsgi_app = app.wsgi_app.app  # type: ignore[method-assign,attr-defined]  # what the debugger wraps
    own = FileSystemLoader(PACKAGE_FOLDER / "demo_templates")
    app.jinja_loader = ChoiceLoader([own, *([app.jinja_loader] if app.jinja_loader else [])])
    app.context_processor(lambda: {"people": accounts.users})
    _register_client(app, client_secret, redirect_uri)
    _shut_what_is_for_tests(app, redirect_uri)
    _check_pkce(app)
    return app


def _register_client(app: flask.Flask, secret: str, redirect_uri: str) -> None:
    import flask
    from oidc_provider_mock._storage import Client  # the library has no public way to name a client's secret

    with app.test_request_context("/"):
        app.preprocess_request()
        flask.g.oidc_provider_mock_storage.store_client(
            Client(
                id=CLIENT_ID,
                secret=secret,
                redirect_uris=[redirect_uri],
                allowed_scopes=SCOPES,
                token_endpoint_auth_method="client_secret_basic",  # noqa: S106  # a method's name
            )
        )


def _shut_what_is_for_tests(app: flask.Flask, redirect_uri: str) -> None:
    import flask

    parts = urlsplit(redirect_uri)
    origin = f"{parts.scheme}://{parts.netloc}/"

    @app.before_request
    def refuse() -> None:
        request = flask.request
        if request.path not in _OPEN_PATHS and request.url_rule is not None:
            flask.abort(404)
        for name in ("post_logout_redirect_uri", "redirect_uri"):
            if request.path.startswith("/oauth2/end_session") and request.values.get(name, origin) != origin:
                flask.abort(400, "This address after the logout is not registered.")


def _check_pkce(app: flask.Flask) -> None:
    """Source: RFC 7636. The library takes the challenge and forgets it."""
    import flask

    challenges: dict[str, str] = {}

    @app.before_request
    def check() -> None:
        request = flask.request
        if request.path == "/oauth2/authorize":
            if request.args.get("code_challenge_method") != "S256" or not request.args.get("code_challenge"):
                flask.abort(400, "The request has no S256 code challenge.")
        elif request.path == "/oauth2/token" and request.form.get("grant_type") == "authorization_code":
            expected = challenges.pop(request.form.get("code", ""), "")
            digest = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
            found = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if not hmac.compare_digest(found, expected):
                refusal = flask.jsonify({"error": "invalid_grant"})
                refusal.status_code = 400
                flask.abort(refusal)

    @app.after_request
    def note(response: flask.Response) -> flask.Response:
        if flask.request.path == "/oauth2/authorize" and response.location:
            answer = parse_qs(urlsplit(response.location).query)
            for code in answer.get("code", []):
                challenges[code] = flask.request.args["code_challenge"]
                while len(challenges) > _MAX_CODES:
                    challenges.pop(next(iter(challenges)))
            if "state" not in answer:  # which the library leaves out of a refusal (RFC 6749, 4.1.2.1)
                response.location += "&" + urlencode({"state": flask.request.args.get("state", "")})
        return response


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m beamhub_hub.demo_provider")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default=HOST, help="address to listen on (loopback)")
    parser.add_argument("--accounts", type=Path, required=True, help="JSON file of people")
    parser.add_argument("--client-secret-file", type=Path, required=True)
    parser.add_argument("--redirect-uri", required=True, help="the hub's callback")
    arguments = parser.parse_args(argv)
    accounts = DemoAccounts.model_validate(json.loads(arguments.accounts.read_text(encoding="utf-8")))
    app = build_app(
        accounts,
        client_secret=read_secret(arguments.client_secret_file),
        redirect_uri=arguments.redirect_uri,
    )
    return serve(app, arguments.port, host=arguments.host)


def serve(app: flask.Flask, port: int, *, host: str = HOST) -> int:
    """Answer until SIGINT or SIGTERM; there is no password, so whoever reaches the address is anybody."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # its lines hold codes and tokens of addresses
    server = make_server(host, port, app, threaded=True)

    def end(*_: object) -> None:
        # shutdown() waits for serve_forever(), which this handler interrupts: hence the thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    sys.stderr.write(f"demo identity provider: http://{host}:{server.server_port}\n")
    sys.stderr.flush()
    server.serve_forever()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
