"""Who somebody is: the words made from verified claims."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from beamhub_core.word import Word

FacilityRole = Literal["admin", "instrument_scientist", "trainer", "support", "service", "guest"]
"""`service` is no human being; `guest` is a person for whom no institution vouches."""


GUEST_ISSUER: Final = "beamhub:guest"
"""The issuer of the facility's own guests; no provider can have it, since theirs are web addresses."""
ACCOUNT_PATTERN = r"^u-[a-z2-7]{26}$"
"""Of the hub's name of an account; see account_name()."""


class Entitlement(Word):
    """A group membership asserted by a community.

    Source: AARC-G069 (doi 10.5281/zenodo.6533400), AARC-G002 for the authority.
    """

    namespace: str
    group: str
    subgroups: tuple[str, ...] = ()
    role: str | None = None
    authority: str | None = None


class Capability(Word):
    """What a community allows somebody to do with a resource; a space of its own beside groups.

    Source: AARC-G027. Without actions it gives nothing here.
    """

    namespace: str
    resource: str
    children: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    authority: str


class Identity(Word):
    """Who somebody is at one provider."""

    issuer: str = Field(max_length=512)
    subject: str = Field(max_length=512)

    @property
    def account(self) -> str:
        """The account that is the identity's own; see account_name()."""
        return account_name(self.issuer, self.subject)


class Principal(Word):
    """A person whose claims were checked.

    Issuer and subject are those of the identity that the account was made for; further identities that
    were linked to it are named in `linked`. Entitlements are those that any of them asserts now; assurance
    and `acr` are those of the last login alone (AARC-G031: a relying party does not combine assurance).
    """

    issuer: str = Field(
        max_length=512, description="Issuer identifier of the provider that spoke for the person."
    )
    subject: str = Field(max_length=512, description="Stable subject at that issuer, case kept.")
    account: str = Field(
        pattern=ACCOUNT_PATTERN, description="Name of the account in the hub; see account_name()."
    )
    display_name: str = Field(max_length=200)
    home_organisation: str | None = Field(default=None, max_length=200)
    orcid: str | None = Field(default=None, pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$")
    facility_account: str | None = Field(default=None, max_length=64)
    linked: tuple[Identity, ...] = Field(default=(), max_length=16)
    entitlements: tuple[Entitlement, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    unheard: tuple[Entitlement, ...] = Field(
        default=(),
        description="Groups of identities whose provider answered too long ago for them to count; that they "
        "are missing among the entitlements is no removal.",
    )
    ignored_entitlements: int = 0
    roles: tuple[FacilityRole, ...] = ()
    assurance: tuple[str, ...] = ()
    acr: str | None = None
    uid: int | None = Field(default=None, ge=1)
    gid: int | None = Field(default=None, ge=1)
    gids: tuple[int, ...] = ()
    checked_at: datetime

    @property
    def identities(self) -> tuple[Identity, ...]:
        """All identities of the account, its own first."""
        return (Identity(issuer=self.issuer, subject=self.subject), *self.linked)


def account_name(issuer: str, subject: str) -> str:
    """The hub's name of the account (issuer, subject): `u-` and 26 base32 letters.

    130 bits of SHA-256 over both values with their lengths, so no two pairs meet by
    concatenation, letter case or normalisation, and the name says nothing of the person.
    """
    parts = (issuer.encode(), subject.encode())
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return "u-" + base64.b32encode(hashlib.sha256(message).digest())[:26].decode().lower()
