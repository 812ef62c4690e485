"""What the catalogue tells the world: the OAI-PMH provider, DOIs and who publishes."""

from __future__ import annotations

from pydantic import Field

from beamhub_core.config.section import HttpUrl, SecretFile, Section

HOST = r"[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z][A-Za-z0-9-]*)+"
"""Source: OAI guidelines for oai-identifiers, namespace-identifier."""


class DoiConfig(Section):
    """The account at DataCite with which DOIs are registered."""

    prefix: str = Field(
        pattern=r"^10\.[0-9]{4,9}$", description="DOI prefix that DataCite gave the facility, e.g. 10.12345."
    )
    url: HttpUrl = Field(
        default="https://api.datacite.org",
        description="DataCite's REST API; https://api.test.datacite.org for tests.",
    )
    user: str = Field(
        min_length=1,
        max_length=80,
        description="Account of the repository, e.g. BL.BEAMLINE.",
    )
    password_file: SecretFile = Field(description="A file that holds the account's password.")
    timeout_s: float = Field(
        default=20.0, gt=0, le=300, description="Seconds within which DataCite has to answer."
    )


class OaiConfig(Section):
    """The OAI-PMH provider."""

    namespace: str | None = Field(
        default=None,
        max_length=253,
        pattern=f"^{HOST}$",
        description="Domain name in the identifiers of records, oai:NAMESPACE:...; it must never change. "
        "Absent: the host of `hub.public_url`.",
    )
    page_size: int = Field(
        default=200, ge=1, le=1000, description="Records, or headers, of one answer to a harvester."
    )
    max_at_once: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Answers made at the same time; further harvesters are asked to come again later.",
    )
    publish_interval_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="Seconds after which a change in the catalogue has its datestamp, at the latest.",
    )


class PublicationConfig(Section):
    """What is told to harvesters, and under whose name."""

    admin_email: str = Field(
        max_length=254,
        pattern=r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,189}$",
        description="Address of those who answer for the repository; every harvester sees it.",
    )
    publisher: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Publisher of the data in citations; absent: the facility's `name`.",
    )
    publisher_ror: str | None = Field(
        default=None,
        pattern=r"^https://ror\.org/0[a-z0-9]{6}[0-9]{2}$",
        description="The publisher in the Research Organization Registry, e.g. https://ror.org/02550n020.",
    )
    oai: OaiConfig = OaiConfig()
    doi: DoiConfig | None = Field(
        default=None, description="Where DOIs are registered; absent: the catalogue registers none."
    )
