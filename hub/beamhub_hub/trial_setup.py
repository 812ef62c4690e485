"""What a trial on a cluster needs before its first pod: secrets that nobody chose, and a user office.

`python -m beamhub_hub.trial_setup --secret NAME --user-office NAME --issuer URL` runs in a pod, as a Job of
the chart before install and upgrade. It makes what is missing and changes nothing that is there: a key that a
later version needs is added to the Secret, every other one stays, and with it what was encrypted by it.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from beamhub_core.clock import utc_now
from beamhub_core.demo.compose_config import IDENTITY_HEADER, identity_rows
from beamhub_core.demo.layout import DemoLayout
from beamhub_core.demo.prepare import TOKENS, write_csv, write_office
from beamhub_core.errors import BeamhubError
from beamhub_spawners.agent_certificates import make_certificates

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API_SERVER = "https://kubernetes.default.svc"
DATABASES = ("hub-database-password", "web-database-password")
KEEPER_TOKEN = "keeper-token"  # noqa: S105  # the name of a key
ANSWER_LIMIT_S = 10.0
TRIES = 30

Values = dict[str, str]
"""Keys of a Secret with their values."""


class SetupRefused(BeamhubError):
    """The API server does not let the trial be set up."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(what, status, reason)
        self.what, self.status, self.reason = what, status, reason

    def __str__(self) -> str:
        return (
            f"The cluster refused the {self.what} ({self.status}): {self.reason} The chart's Job needs a "
            "Role that may create Secrets and ConfigMaps, and get and patch the one Secret."
        )


class ApiServer:
    """The API server as the pod's service account may use it, in its own namespace."""

    def __init__(self, account: Path = ACCOUNT, url: str = API_SERVER) -> None:
        self._url = f"{url}/api/v1/namespaces/{(account / 'namespace').read_text().strip()}"
        self._token = (account / "token").read_text().strip()
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and answer of one request; asked again for half a minute while nobody answers.

        Raises
        ------
        OSError
            If nobody answered.
        """
        kind = "merge-patch+json" if method == "PATCH" else "json"
        request = urllib.request.Request(  # noqa: S310  # https, above
            f"{self._url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": f"application/{kind}"},
        )
        for i_try in range(TRIES):
            try:
                answer = urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S, context=self._context)  # noqa: S310
                with answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, _object(error.read())
            except OSError:
                if i_try == TRIES - 1:
                    raise
                time.sleep(1)
        raise AssertionError("unreachable")


def random_key() -> str:
    """A secret that nobody chose: 64 hexadecimal digits."""
    return secrets.token_hex(32)


def keeper_certificates(hosts: dict[str, str]) -> Values:
    """An authority, a pair of each storage keeper, and the hub's pair; nobody keeps the authority's key.

    Parameters
    ----------
    hosts:
        The host name of each keeper, by the name of its place.
    """
    if not hosts:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        made = make_certificates(Path(folder), tuple(hosts.values()), now=utc_now())
        text = {path.name: path.read_text(encoding="ascii") for path in made}
    found = {f"keeper-{name}": text[name] for name in ("ca.pem", "hub.pem", "hub-key.pem")}
    for place, host in hosts.items():
        for end in (".pem", "-key.pem"):
            found[f"keeper-of-{place}{end}"] = text[f"agent-{host}{end}"]
    return found


def ensure_secret(server: ApiServer, name: str, groups: tuple[Values, ...]) -> tuple[str, ...]:
    """The keys that were made; none where all are there.

    Parameters
    ----------
    groups:
        What the Secret holds; a group of which a key is missing is made anew as a whole.

    Raises
    ------
    SetupRefused
        If the API server says no.
    """
    made = [{key: base64.b64encode(value.encode()).decode() for key, value in one.items()} for one in groups]
    everything = {key: value for group in made for key, value in group.items()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque"}
    status, answer = server.call("POST", "secrets", {**body, "data": everything})
    if status == 201:
        return tuple(everything)
    if status != 409:
        raise _refused(f"Secret {name}", status, answer)
    status, answer = server.call("GET", f"secrets/{name}")
    if status != 200:
        raise _refused(f"Secret {name}", status, answer)
    known = answer.get("data") or {}
    missing = {k: v for group in made if not set(group) <= set(known) for k, v in group.items()}
    if missing:
        # Refused when somebody else changed it meanwhile; then the Job tries again.
        patch = {"metadata": {"resourceVersion": answer["metadata"]["resourceVersion"]}, "data": missing}
        status, answer = server.call("PATCH", f"secrets/{name}", patch)
        if status != 200:
            raise _refused(f"Secret {name}", status, answer)
    return tuple(missing)


def ensure_office(server: ApiServer, name: str, issuer: str) -> bool:
    """Make the ConfigMap with proposals, members, roles and numeric identities; False where it is there.

    Raises
    ------
    SetupRefused
        If the API server says no.
    """
    with tempfile.TemporaryDirectory() as folder:
        layout = DemoLayout(Path(folder))
        layout.user_office.mkdir()
        write_office(layout, issuer, utc_now())
        write_csv(layout.root / "identities.csv", IDENTITY_HEADER, identity_rows(issuer))
        files = (*layout.user_office.glob("*.csv"), *layout.root.glob("*.csv"))
        data = {path.name: path.read_text(encoding="utf-8") for path in files}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    status, answer = server.call("POST", "configmaps", body)
    if status not in (201, 409):
        raise _refused(f"ConfigMap {name}", status, answer)
    return status == 201


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refused(what: str, status: int, answer: dict[str, Any]) -> SetupRefused:
    return SetupRefused(what, status, str(answer.get("message", "no reason was given"))[:400])


def main(argv: list[str] | None = None) -> int:
    """Make what is missing, and say what was made: names, no values."""
    parser = argparse.ArgumentParser(prog="python -m beamhub_hub.trial_setup")
    parser.add_argument("--secret", required=True, help="name of the Secret")
    parser.add_argument("--user-office", required=True, help="name of the ConfigMap with the CSV files")
    parser.add_argument("--issuer", required=True, help="the demo provider's issuer")
    parser.add_argument(
        "--keeper", action="append", default=[], metavar="PLACE=HOST", help="a storage keeper; repeat it"
    )
    arguments = parser.parse_args(argv)
    try:
        server = ApiServer()
        names = (*TOKENS, *DATABASES, KEEPER_TOKEN)
        certificates = keeper_certificates(dict(one.split("=", 1) for one in arguments.keeper))
        groups = (*({name: random_key()} for name in names), certificates)
        made = ensure_secret(server, arguments.secret, groups)
        has_office = ensure_office(server, arguments.user_office, arguments.issuer)
    except (BeamhubError, OSError) as error:
        sys.stderr.write(f"beamhub trial: {error}\n")
        return error.exit_code if isinstance(error, BeamhubError) else 6
    sys.stdout.write(f"secret {arguments.secret}: made {', '.join(made) or 'nothing'}\n")
    sys.stdout.write(f"user office {arguments.user_office}: {'made' if has_office else 'is there'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
