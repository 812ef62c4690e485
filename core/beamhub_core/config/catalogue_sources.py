"""Other catalogues whose datasets are mirrored here."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from beamhub_core.config.section import HoldsSecret, HttpUrl, SecretFile, Section, SectionName


def private_url(url: str) -> str:
    """A URL by which neither a token nor who is a member crosses a network in the clear."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError(f"{url!r} is not https; http is for a service on this machine only")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Source(Section):
    """What every other catalogue has."""

    name: SectionName = Field(description="Name of the source; its datasets carry it.")
    url: Annotated[HttpUrl, AfterValidator(private_url)] = Field(
        description="Address below which it answers; https, or http to this machine."
    )
    authority: bool = Field(
        default=True,
        description="It decides too: a dataset that it keeps closed stays closed here. False: it only tells.",
    )
    write_back: bool = Field(
        default=False, description="Tell it of products that were made from its datasets (SciCat, ICAT)."
    )
    page_size: int = Field(default=100, ge=1, le=1_000, description="Records of one answer.")
    requests_per_s: float = Field(default=5.0, gt=0, le=1_000, description="Most questions in a second.")
    timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="Seconds within which one answer must have come."
    )


class ScicatSourceConfig(_Source):
    """A SciCat backend."""

    kind: Literal["scicat"] = Field(description="What answers: a SciCat backend.")
    contact: str = Field(
        default="", max_length=200, description="E-mail address that products told to it carry as contact."
    )
    version: Literal["v3", "v4"] = Field(default="v4", description="Its API: v3 is catamel, v4 the backend.")
    token_file: Annotated[SecretFile | None, HoldsSecret()] = Field(
        default=None, description="File of the access token; absent: only what everybody may see."
    )


class IcatSourceConfig(_Source):
    """An ICAT server, by its REST interface."""

    kind: Literal["icat"] = Field(description="What answers: an ICAT server.")
    plugin: str = Field(
        default="simple", min_length=1, max_length=40, description="Its authentication plugin."
    )
    username: str = Field(min_length=1, max_length=200, description="Who reads there.")
    password_file: Annotated[SecretFile, HoldsSecret()] = Field(description="File of that user's password.")


class MymdcSourceConfig(_Source):
    """A myMdC service."""

    kind: Literal["mymdc"] = Field(description="What answers: a myMdC service.")
    proposals: tuple[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], ...] = Field(
        min_length=1, max_length=10_000, description="Numbers of the proposals whose runs are read."
    )
    token_file: Annotated[SecretFile, HoldsSecret()] = Field(description="File of the access token.")


class BeamhubSourceConfig(_Source):
    """Another beamhub, or any service with the PaNOSC search API."""

    kind: Literal["beamhub"] = Field(description="What answers: a PaNOSC search API at 'api/Datasets'.")
    token_file: Annotated[SecretFile | None, HoldsSecret()] = Field(
        default=None, description="File of the bearer token; absent: only what everybody may see."
    )


CatalogueSourceConfig = Annotated[
    ScicatSourceConfig | IcatSourceConfig | MymdcSourceConfig | BeamhubSourceConfig,
    Field(discriminator="kind"),
]
"""Another catalogue."""
