"""The processes: hub, proxy and web."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from beamhub_core.config.section import (
    AbsolutePath,
    DatabaseUrl,
    HttpUrl,
    SecretFile,
    Section,
    SectionName,
)

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# At least two labels, the last not a number: people's names stand before it, and an address has none.
_HOST_NAME = re.compile(rf"({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?")


class ProxyConfig(Section):
    """The proxy in front of everything."""

    api_url: HttpUrl = Field(description="The proxy's API as the hub reaches it.")
    token_file: SecretFile


class HubConfig(Section):
    """The hub process."""

    public_url: HttpUrl = Field(description="Where browsers reach the platform.")
    subdomain_host: str | None = Field(
        default=None,
        max_length=253,
        description="Host name below which each person's sessions have a host name of their own, so that a "
        "page of one session cannot act on another's: the host of `public_url`, with a wildcard DNS entry "
        "and certificate; the proxy runs with `--host-routing`. Absent: all share one host name.",
    )
    support_url: HttpUrl | None = Field(
        default=None, description="Page of the facility's support, shown where something was refused."
    )
    support_email: str | None = Field(
        default=None,
        max_length=254,
        pattern=r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,189}$",
        description="Address of the facility's support, shown where something was refused.",
    )
    listen_host: str = Field(default="127.0.0.1", description="Address on which the hub listens.")
    listen_port: int = Field(default=8081, gt=0, lt=65536, description="Port on which the hub listens.")
    connect_url: HttpUrl | None = Field(
        default=None,
        description="Where proxy and sessions reach the hub, e.g. http://hub:8081; absent: where it listens. "
        "Needed where it listens on all addresses.",
    )
    database_url: str = Field(description="The hub's own database, an SQLAlchemy URL.")
    database_password_file: SecretFile | None = Field(
        default=None, description="A file that holds the password of the hub's PostgreSQL user."
    )
    state_folder: AbsolutePath = Field(description="Other run-time files of the hub.")
    crypt_key_file: SecretFile
    cookie_secret_file: SecretFile
    web_client_token_file: SecretFile = Field(description="Token with which the hub calls web.")
    proxy: ProxyConfig

    @field_validator("connect_url")
    @classmethod
    def _has_no_path(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).path.strip("/"):
            raise ValueError(f"{url!r} has a path; the hub knows its own, write the address alone")
        return url

    @model_validator(mode="after")
    def _password_has_a_use(self) -> HubConfig:
        if self.database_password_file is not None and not self.database_url.startswith("postgresql"):
            raise ValueError("'database_password_file' is for a PostgreSQL database; drop it")
        return self

    @field_validator("subdomain_host")
    @classmethod
    def _is_a_host_name(cls, host: str | None) -> str | None:
        if host is not None and not _HOST_NAME.fullmatch(host):
            raise ValueError(
                f"{host!r} is no host name in lower case without port, e.g. 'analysis.example.org'"
            )
        return host

    @model_validator(mode="after")
    def _subdomains_are_its_own(self) -> HubConfig:
        # JupyterHub makes people's host names from the host of the public URL, whatever else is set.
        host = urlsplit(self.public_url).hostname
        if self.subdomain_host not in (None, host):
            raise ValueError(
                f"'subdomain_host' {self.subdomain_host!r} is not the host of 'public_url', {host!r}"
            )
        return self


class WebClientConfig(Section):
    """A process that may call web's internal API."""

    name: SectionName = Field(description="Name of the caller, for the log.")
    token_file: SecretFile
    scopes: tuple[
        Literal[
            "principals:write",
            "grants:read",
            "plans:read",
            "plans:write",
            "sessions:recheck",
            "acts:write",
            "audit:read",
            "audit:write",
            "harvest:write",
            "metrics:read",
            "usage:write",
        ],
        ...,
    ] = Field(description="What the caller may ask for; see docs/reference/internal-api.md.")


class WebConfig(Section):
    """The web service: portal, search API, internal API."""

    listen_host: str = Field(default="127.0.0.1", description="Address on which the web service listens.")
    listen_port: int = Field(
        default=8082, gt=0, lt=65536, description="Port on which the web service listens."
    )
    internal_url: HttpUrl = Field(description="Where hub, proxy and sessions reach web.")
    base_path: str = Field(
        default="/services/web",
        pattern=r"^(/[a-z0-9-]+)*$",
        description="Path of the portal below the public URL.",
    )
    hub_api_url: HttpUrl = Field(description="The hub's API as the web service reaches it.")
    hub_service_token_file: SecretFile = Field(
        description="The portal's own token at the hub, its OAuth client secret."
    )
    cookie_secret_file: SecretFile
    database_url: DatabaseUrl = Field(
        description="The web service's own database: sqlite:////path/of/file, or "
        "postgresql://user@host/database, without a password."
    )
    database_password_file: SecretFile | None = Field(
        default=None, description="A file that holds the password of the PostgreSQL user."
    )
    state_folder: AbsolutePath = Field(description="Previews and other files of web.")
    clients: tuple[WebClientConfig, ...] = Field(min_length=1)
    unsafe_clock_offset_file: AbsolutePath | None = Field(
        default=None,
        description="Shifts the clock by the seconds in this file; demonstrations and tests only.",
    )
