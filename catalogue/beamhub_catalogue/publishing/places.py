"""Where records are found from outside: landing pages, and the identifiers of OAI-PMH."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from beamhub_core.config.facility import FacilityConfig
from beamhub_core.config.publication import HOST

_SAFE = "-_.!~*'();:@&=+$,"
"""What an OAI identifier may hold besides letters and digits. Source: OAI guidelines, local-identifier."""


@dataclass(frozen=True, slots=True)
class PublicPlaces:
    """Addresses as the world sees them, and names made of these."""

    base_url: str
    namespace: str
    has_identifier_scheme: bool
    """Whether the namespace is a domain name, so that the identifiers follow the OAI guidelines."""

    @property
    def oai_url(self) -> str:
        """The provider."""
        return f"{self.base_url}/oai"

    def dataset(self, pid: str) -> str:
        """The landing page of a dataset."""
        return f"{self.base_url}/datasets/{quote(pid, safe=':')}"

    def document(self, proposal: str) -> str:
        """The landing page of a proposal's document."""
        return f"{self.base_url}/documents/{quote(proposal, safe=':')}"

    def oai_identifier(self, kind: str, pid: str) -> str:
        """The identifier of a record of OAI-PMH; `kind` is 'dataset' or 'document'."""
        return f"oai:{self.namespace}:{kind}s/{quote(pid, safe=_SAFE)}"

    def local_name(self, identifier: str) -> tuple[str, str] | None:
        """The kind and pid that an OAI identifier names; None for one that is not ours."""
        from_us = identifier.removeprefix(f"oai:{self.namespace}:")
        group, slash, name = from_us.partition("/")
        if not slash or from_us == identifier or group not in ("datasets", "documents"):
            return None
        kind, pid = group[:-1], _unquoted(name)
        return (kind, pid) if pid is not None and self.oai_identifier(kind, pid) == identifier else None


def public_places(config: FacilityConfig) -> PublicPlaces:
    """The addresses of a configuration."""
    base = config.hub.public_url.rstrip("/") + config.web.base_path
    publication = config.catalogue.publication
    host = urlsplit(config.hub.public_url).hostname or "localhost"
    namespace = (publication.oai.namespace if publication else None) or host
    return PublicPlaces(base, namespace, re.fullmatch(HOST, namespace) is not None)


def _unquoted(name: str) -> str | None:
    raw = bytearray()
    position = 0
    while position < len(name):
        if name[position] == "%":
            digits = name[position + 1 : position + 3]
            if not re.fullmatch("[0-9A-F]{2}", digits):
                return None
            raw.append(int(digits, 16))
            position += 3
        else:
            raw += name[position].encode("utf-8", "replace")
            position += 1
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
