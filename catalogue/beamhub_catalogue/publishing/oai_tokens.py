"""Resumption tokens: where a list goes on, signed, so that nothing has to be remembered of a harvester."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

VALID_S = 24 * 3600
MAX_TOKEN = 2000
_MAC_BYTES = 16
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ListPlace:
    """A list as it was asked for first, and the last record that was given of it.

    Times are whole seconds since 1970. `until` stands from the first page on, also where the harvester gave
    none: what changes later belongs to the next harvest. `total` and `cursor` are what the first page said.
    """

    verb: str
    prefix: str
    set_spec: str | None
    since: int | None
    until: int
    last_datestamp: int
    last_id: int
    cursor: int
    total: int
    made_at: int


class TokenSigner:
    """Makes tokens and reads them back; all processes with the same secret read each other's."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"beamhub oai resumption token\0" + secret.encode()).digest()

    def sign(self, place: ListPlace) -> str:
        """The token of a place."""
        body = json.dumps([_VERSION, *astuple(place)], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def read(self, token: str, now: datetime) -> ListPlace | None:
        """The place of a token; None for one that is not ours, was altered, or is too old."""
        if not token.isascii() or len(token) > MAX_TOKEN:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        version, *words = json.loads(body)
        if version != _VERSION:
            return None
        place = ListPlace(*words)
        # Base64 can be written in several ways; only the one that we wrote is ours.
        if self.sign(place) != token or now.timestamp() > place.made_at + VALID_S:
            return None
        return place

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC_BYTES]


def expires_at(place: ListPlace) -> datetime:
    """When the token of a place ends."""
    return datetime.fromtimestamp(place.made_at + VALID_S, UTC)
