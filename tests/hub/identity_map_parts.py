"""People and maps for the tests of the identity map."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from beamhub_core.config.identity_map import IdentityMapConfig, LdapConfig
from beamhub_core.identity import Identity, Principal, account_name
from beamhub_core.identity_table import HEADER, MappedIdentity
from beamhub_hub.identity_map import IdentityMap, IdentitySource

ISSUER, OTHER = "https://provider.example/oidc", "https://other.example"
UNMAPPED = 200_000_000
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def person(subject: str = "ines", *linked: tuple[str, str], **facts: Any) -> Principal:
    """Somebody as claims say, with identities that sign in as the same account."""
    return Principal(
        issuer=ISSUER,
        subject=subject,
        account=account_name(ISSUER, subject),
        display_name="Name of claims",
        linked=tuple(Identity(issuer=issuer, subject=other) for issuer, other in linked),
        checked_at=NOW,
        **facts,
    )


def csv_map(path: Path, **changes: Any) -> IdentityMap:
    """A map of kind `csv`."""
    return IdentityMap(IdentityMapConfig(kind="csv", file=path, **changes), unmapped_uid_first=UNMAPPED)


def ldap_map(fields: dict[str, Any], **changes: Any) -> IdentityMap:
    """A map of kind `ldap`."""
    config = IdentityMapConfig(kind="ldap", ldap=LdapConfig.model_validate(fields), **changes)
    return IdentityMap(config, unmapped_uid_first=UNMAPPED)


def nss_map(source: IdentitySource | None = None, **changes: Any) -> IdentityMap:
    """A map of kind `nss`, or of a source of the test's own."""
    config = IdentityMapConfig(kind="nss", **changes)
    return IdentityMap(config, unmapped_uid_first=UNMAPPED, source=source)


def find(identity_map: IdentityMap, who: Principal) -> MappedIdentity | None:
    """What the map says of a person."""
    return asyncio.run(identity_map.find(who))


def row(
    subject: str = "ines",
    account: str = "iferreira",
    uid: str = "12001",
    gid: str = "20000",
    gids: str = "",
    more: str = ",",
    issuer: str = ISSUER,
) -> str:
    """A line of the table."""
    return f"{issuer},{subject},{account},{uid},{gid},{gids},{more}"


def write_table(path: Path, *rows: str) -> Path:
    """The table with these lines."""
    path.write_text("\n".join([",".join(HEADER), *rows, ""]), "utf-8")
    return path
