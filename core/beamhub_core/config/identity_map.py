"""Where the facility says which account, numeric ids and home organisation a person has there."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from beamhub_core.config.section import AbsolutePath, SecretFile, Section

_ATTRIBUTE = r"^[A-Za-z][A-Za-z0-9-]{0,99}$"
_PLACE = re.compile(r"\([A-Za-z][A-Za-z0-9-]*=\{([a-z_]+)\}\)")
_WHO = frozenset(("issuer", "subject", "orcid", "facility_account"))


def _check_filter(text: str, known: frozenset[str], needed: frozenset[str]) -> str:
    """A filter whose placeholders are whole values, so that none can be a part of something else."""
    depth = [text[:i].count("(") - text[:i].count(")") for i in range(1, len(text) + 1)]
    if not text.startswith("(") or any(here < 1 for here in depth[:-1]) or depth[-1] != 0:
        raise ValueError("is no LDAP filter: it begins with '(', and its parentheses fit (RFC 4515)")
    found = _PLACE.findall(text)
    if not set(found) <= known or any(letter in _PLACE.sub("", text) for letter in "{}"):
        names = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ValueError(f"a placeholder is one of {names} and a whole value: '(attribute={{name}})'")
    if needed.isdisjoint(found):
        raise ValueError(f"needs one of {', '.join(f'{{{name}}}' for name in sorted(needed))}")
    return text


class LdapConfig(Section):
    """A directory that is asked at each login and refresh."""

    url: str = Field(
        pattern=r"^ldaps?://[^\s/?#@]+/?$",
        description="Address of the directory, e.g. 'ldaps://ldap.example.org'.",
    )
    bind_dn: str | None = Field(
        default=None, max_length=1000, description="Name to bind with; none: anonymous."
    )
    bind_password_file: SecretFile | None = Field(
        default=None, description="Absolute path of a file that holds the password of `bind_dn`."
    )
    base_dn: str = Field(min_length=1, max_length=1000, description="Below which people are searched.")
    group_base_dn: str | None = Field(
        default=None,
        max_length=1000,
        description="Below which groups are searched; none: only the primary group counts.",
    )
    filter: str = Field(
        default="(&(objectClass=posixAccount)(beamhubSubject={subject}))",
        max_length=1000,
        description="Finds one person. {issuer}, {subject}, {orcid} and {facility_account} stand for "
        "values of the login, each as a whole value: '(attribute={subject})'. What stands for issuer and "
        "subject must be in the entry letter for letter. With several providers, {subject} needs {issuer}.",
    )
    group_filter: str = Field(
        default="(&(objectClass=posixGroup)(memberUid={uid}))",
        max_length=1000,
        description="Finds a person's groups. {uid} stands for the account, {dn} for the entry's name.",
    )
    account_attribute: str = Field(
        default="uid", pattern=_ATTRIBUTE, description="Attribute with the account."
    )
    uid_attribute: str = Field(
        default="uidNumber", pattern=_ATTRIBUTE, description="Attribute with the numeric user id."
    )
    gid_attribute: str = Field(
        default="gidNumber", pattern=_ATTRIBUTE, description="Attribute with the numeric group id."
    )
    home_organisation_attribute: str | None = Field(
        default=None, pattern=_ATTRIBUTE, description="Attribute with the home organisation."
    )
    display_name_attribute: str | None = Field(
        default=None, pattern=_ATTRIBUTE, description="Attribute with the name."
    )
    ca_file: AbsolutePath | None = Field(
        default=None, description="Certificates that the directory's is checked against; none: the system's."
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for the directory.")
    unsafe_allow_plain: bool = Field(
        default=False, description="Accept ldap:// without TLS; for loopback and closed test networks only."
    )

    @field_validator("url")
    @classmethod
    def _names_a_port_or_none(cls, url: str) -> str:
        try:
            _ = urlsplit(url).port
        except ValueError as error:
            raise ValueError(f"{url!r} is no address of a directory: {error}") from None
        return url

    @field_validator("filter")
    @classmethod
    def _finds_a_person(cls, text: str) -> str:
        return _check_filter(text, _WHO, _WHO - {"issuer"})

    @field_validator("group_filter")
    @classmethod
    def _finds_groups(cls, text: str) -> str:
        return _check_filter(text, frozenset(("uid", "dn")), frozenset(("uid", "dn")))

    @property
    def tells_issuers_apart(self) -> bool:
        """Whether the same subject of another provider is another person to the filter."""
        return "{subject}" not in self.filter or "{issuer}" in self.filter

    @model_validator(mode="after")
    def _has_transport_security(self) -> LdapConfig:
        if self.url.startswith("ldap://") and not self.unsafe_allow_plain:
            raise ValueError("'ldap://' has no TLS; use ldaps://, or 'unsafe_allow_plain: true' on loopback")
        if (self.bind_dn is None) != (self.bind_password_file is None):
            raise ValueError("'bind_dn' and 'bind_password_file' stand together or not at all")
        return self


class IdentityMapConfig(Section):
    """The facility's own word on accounts: a table, a directory, or the machine's name service (SSSD)."""

    kind: Literal["csv", "ldap", "nss"] = Field(
        description="'csv': a table; 'ldap': a directory; 'nss': the accounts of the machine (SSSD), found "
        "by the facility account that a claim or table gives."
    )
    file: AbsolutePath | None = Field(
        default=None,
        description="The table of kind 'csv': 'issuer,subject,account,uid,gid,gids,home_organisation,name'.",
    )
    ldap: LdapConfig | None = Field(default=None, description="The directory of kind 'ldap'.")
    is_required: bool = Field(
        default=False,
        description="Who is not in the map may not log in. Otherwise: no numeric ids, no facility home.",
    )
    min_uid: int = Field(
        default=1000, ge=1, description="Lower numeric user ids are refused: they are the system's."
    )
    min_gid: int = Field(
        default=1000,
        ge=1,
        description="Lower group ids are the system's: refused as primary group, else left out.",
    )
    timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="Longest wait for the table or the name service."
    )

    @model_validator(mode="after")
    def _has_its_part(self) -> IdentityMapConfig:
        if (self.file is not None) != (self.kind == "csv"):
            raise ValueError("'file' belongs to kind 'csv', and to no other")
        if (self.ldap is not None) != (self.kind == "ldap"):
            raise ValueError("'ldap' belongs to kind 'ldap', and to no other")
        return self
