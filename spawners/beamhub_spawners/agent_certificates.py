"""Certificates between hub and agents for a facility without an authority of its own."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from beamhub_core.clock import utc_now
from beamhub_core.errors import BeamhubError

HUB_SUBJECT = "beamhub-hub"
CA_YEARS, LEAF_DAYS = 10, 730
BEFORE = timedelta(minutes=5)  # clocks of two machines are never the same
MODE = 0o600


class CertificatesInTheWay(BeamhubError):
    """A file that would be written is there already."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file

    def __str__(self) -> str:
        return f"{self.file} is there already and is never overwritten. Name another folder, or remove it."


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(folder: Path, hosts: tuple[str, ...], *, now: datetime) -> tuple[Path, ...]:
    """Write an authority, a pair of each host's agent, and the hub's pair; returns the files.

    An authority that is in the folder already is used again, so that a host can be added later.

    Parameters
    ----------
    hosts:
        Host names or addresses, as the hub names the agents.

    Raises
    ------
    CertificatesInTheWay
        If a host's pair is there already.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written: list[Path] = []
    ca_files = folder / "ca.pem", folder / "ca-key.pem"
    if all(file.exists() for file in ca_files):
        key = serialization.load_pem_private_key(ca_files[1].read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificatesInTheWay(str(ca_files[1]))
        ca = _Pair(x509.load_pem_x509_certificate(ca_files[0].read_bytes()), key)
    else:
        ca = _authority(now)
        written += _write(folder, "ca", ca)
    if not (folder / "hub.pem").exists():
        written += _write(folder, "hub", _leaf(ca, HUB_SUBJECT, now=now, host=None))
    for host in hosts:
        written += _write(folder, f"agent-{_file_part(host)}", _leaf(ca, host, now=now, host=host))
    return tuple(written)


def _file_part(host: str) -> str:
    return host.replace(":", "-").replace("/", "-")


def _authority(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "beamhub agents")])
    usage = _usage(signs_certificates=True)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _leaf(ca: _Pair, subject: str, *, now: datetime, host: str | None) -> _Pair:
    """A certificate that serves as one thing only: a server's of one host, or a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if host is None else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + timedelta(days=LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
    return _Pair(builder.sign(ca.key, hashes.SHA256()), key)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(folder: Path, name: str, pair: _Pair) -> list[Path]:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files = {
        folder / f"{name}.pem": pair.certificate.public_bytes(serialization.Encoding.PEM),
        folder / f"{name}-key.pem": key,
    }
    for file in files:
        if file.exists():
            raise CertificatesInTheWay(str(file))
    for file, content in files.items():
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
    return list(files)


def run_make_certificates(arguments: argparse.Namespace) -> int:
    """Write the files and say which, and what to do with them."""
    folder: Path = arguments.folder
    for file in make_certificates(folder, tuple(arguments.host), now=utc_now()):
        sys.stdout.write(f"{file}\n")
    sys.stderr.write(
        "beamhub: give each agent ca.pem and its own pair, the hub ca.pem and hub.pem with hub-key.pem; keep "
        "ca-key.pem where neither is. All expire: make new ones in time.\n"
    )
    return 0
