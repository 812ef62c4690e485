"""The keys that are made from the cookie secret, one per purpose."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import URLSafeTimedSerializer

from beamhub_core.errors import ConfigInvalid

MIN_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs and encrypts for browsers; never shown."""

    login_state: URLSafeTimedSerializer
    tokens: Fernet
    xsrf: bytes

    def xsrf_token(self, visit: str) -> str:
        """The token that every form of one visit carries."""
        return hmac.new(self.xsrf, visit.encode(), hashlib.sha256).hexdigest()


def read_secret(path: Path, what: str) -> str:
    """The one line of a secret file.

    Raises
    ------
    ConfigInvalid
        If the file cannot be read or holds fewer than 32 bytes.
    """
    try:
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(str(path), (f"{what}: cannot be read ({type(error).__name__})",)) from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigInvalid(str(path), (f"{what}: has fewer than {MIN_SECRET_BYTES} characters",))
    return secret


def build_keys(secret: str) -> Keys:
    """The portal's keys, each from the secret by HKDF-SHA256 (RFC 5869) with a purpose of its own."""
    return Keys(
        login_state=URLSafeTimedSerializer(_derive(secret, "login state").hex(), salt="beamhub.login"),
        tokens=Fernet(base64.urlsafe_b64encode(_derive(secret, "hub tokens"))),
        xsrf=_derive(secret, "forms"),
    )


def _derive(secret: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"beamhub portal {purpose}".encode()).derive(secret.encode())
