"""A real directory for tests: Debian's slapd as an ordinary process on loopback, with TLS of its own."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ldap3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ldap3.utils.dn import escape_rdn

BASE = "dc=example,dc=org"
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
READER, PASSWORD = f"cn=reader,{BASE}", "reader-password-of-the-test"
START_S = 20.0
_SCHEMAS = Path("/etc/ldap/schema")
_MODULES = Path("/usr/lib/ldap")
_OWN_SCHEMA = """\
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'beamhubSubject' EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.99999.2 NAME 'beamhubIssuer' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.99999.3 NAME 'beamhubPerson' SUP top AUXILIARY
  MAY ( beamhubSubject $ beamhubIssuer $ o ) )
"""


def slapd_program() -> str | None:
    """The server's program, if it is installed."""
    return shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/usr/local/libexec")


@dataclass
class Directory:
    """A running directory."""

    folder: Path
    port: int
    tls_port: int
    process: subprocess.Popen[bytes]

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that signed the server's."""
        return self.folder / "ca.pem"

    @property
    def password_file(self) -> Path:
        """The password of the reader."""
        return self.folder / "reader.secret"

    def config(self, **changes: Any) -> dict[str, Any]:
        """The fields of `login.identity_map.ldap` for this directory."""
        return {
            "url": f"ldaps://127.0.0.1:{self.tls_port}",
            "ca_file": self.ca_file,
            "bind_dn": READER,
            "bind_password_file": self.password_file,
            "base_dn": PEOPLE,
            "group_base_dn": GROUPS,
            "filter": "(&(objectClass=posixAccount)(beamhubSubject={subject}))",
            "home_organisation_attribute": "o",
            "display_name_attribute": "displayName",
        } | changes

    def add(self, dn: str, classes: list[str], **attributes: Any) -> None:
        """Add an entry, as the directory's own administrator."""
        with self._administrator() as connection:
            connection.add(dn, classes, attributes)
            assert connection.result["result"] == 0, connection.result

    def add_person(self, account: str, number: int, /, **attributes: Any) -> None:
        """Add somebody whose subject is the account, unless told otherwise."""
        known = {
            "sn": account,
            "uid": account,
            "uidNumber": str(number),
            "gidNumber": "20000",
            "homeDirectory": f"/home/{account}",
            "beamhubSubject": account,
        }
        classes = ["inetOrgPerson", "posixAccount", "beamhubPerson"]
        self.add(f"cn={escape_rdn(f'person {account}')},{PEOPLE}", classes, **(known | attributes))

    def add_groups(self, groups: dict[str, int], *members: str) -> None:
        """Add groups of the same accounts, each with its number."""
        with self._administrator() as connection:
            for name, gid in groups.items():
                about = {"cn": name, "gidNumber": str(gid), "memberUid": list(members)}
                connection.add(f"cn={name},{GROUPS}", ["posixGroup"], about)
                assert connection.result["result"] == 0, connection.result

    def remove(self, account: str) -> None:
        """Remove a person."""
        with self._administrator() as connection:
            connection.delete(f"cn=person {account},{PEOPLE}")

    @contextmanager
    def _administrator(self) -> Iterator[Any]:
        server = ldap3.Server("127.0.0.1", port=self.port, get_info=ldap3.NONE)
        connection = ldap3.Connection(server, f"cn=admin,{BASE}", PASSWORD, auto_bind=True)
        try:
            yield connection
        finally:
            connection.unbind()


@contextmanager
def running_directory(folder: Path) -> Iterator[Directory]:
    """A directory with a reader, and nobody in it."""
    program = slapd_program()
    assert program is not None
    (folder / "data").mkdir()
    (folder / "own.schema").write_text(_OWN_SCHEMA)
    (folder / "reader.secret").write_text(PASSWORD + "\n")
    make_certificates(folder)
    port, tls_port = _free_ports()
    (folder / "slapd.conf").write_text(_configuration(folder))
    urls = f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}"
    with (folder / "slapd.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-h", urls, "-f", str(folder / "slapd.conf"), "-d", "0"], stdout=log, stderr=log
        )
    try:
        _await(process, port, folder)
        made = Directory(folder, port, tls_port, process)
        made.add(BASE, ["dcObject", "organization"], dc="example", o="Example")
        for unit in ("people", "groups"):
            made.add(f"ou={unit},{BASE}", ["organizationalUnit"], ou=unit)
        made.add(READER, ["organizationalRole", "simpleSecurityObject"], cn="reader", userPassword=PASSWORD)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def _configuration(folder: Path) -> str:
    schemas = [_SCHEMAS / f"{name}.schema" for name in ("core", "cosine", "inetorgperson", "nis")]
    return "\n".join(
        [
            *(f"include {path}" for path in (*schemas, folder / "own.schema")),
            f"modulepath {_MODULES}",
            "moduleload back_mdb",
            f"pidfile {folder / 'slapd.pid'}",
            f"TLSCertificateFile {folder / 'server.pem'}",
            f"TLSCertificateKeyFile {folder / 'server.key'}",
            "sizelimit 10000",
            "database mdb",
            f"suffix {BASE}",
            f"rootdn cn=admin,{BASE}",
            f"rootpw {PASSWORD}",
            f"directory {folder / 'data'}",
            "maxsize 33554432",
            "access to attrs=userPassword by anonymous auth by * none",
            f'access to * by dn.exact="{READER}" read by * none',
            "",
        ]
    )


def make_certificates(folder: Path) -> None:
    """An authority and a server's certificate for 127.0.0.1, both young."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "directory")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    own = builder(authority, authority_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    servers = builder(name, key.public_key()).add_extension(address, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(own.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    (folder / "server.pem").write_bytes(servers.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _await(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("slapd did not start: " + (folder / "slapd.log").read_text(errors="replace")[-2000:])
