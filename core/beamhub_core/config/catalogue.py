"""Policy, user office and harvest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from beamhub_core.config.catalogue_sources import CatalogueSourceConfig, private_url
from beamhub_core.config.publication import PublicationConfig
from beamhub_core.config.section import (
    AbsolutePath,
    HoldsSecret,
    HttpUrl,
    SecretFile,
    Section,
    SectionName,
)
from beamhub_core.rights import RelativePath


class CsvOfficeConfig(Section):
    """A user office that is CSV files; docs/reference/user-office.md has their columns."""

    name: SectionName = Field(description="Name of the user office; memberships carry it as their source.")
    kind: Literal["csv"] = Field(description="How it is read: CSV files on this machine.")
    proposals: AbsolutePath = Field(description="CSV of proposals.")
    members: AbsolutePath = Field(description="CSV of memberships.")
    staff: AbsolutePath | None = Field(default=None, description="CSV of who is in charge of an instrument.")


class RestOfficeConfig(Section):
    """A user office that answers over HTTP; docs/reference/user-office.md has the shape of its answers."""

    name: SectionName = Field(description="Name of the user office; memberships carry it as their source.")
    kind: Literal["rest"] = Field(description="How it is read: over HTTP, again and again.")
    url: Annotated[HttpUrl, AfterValidator(private_url)] = Field(
        description="Address below which the office answers at 'v1/state'; https, or http to this machine."
    )
    token_file: Annotated[SecretFile | None, HoldsSecret()] = Field(
        default=None, description="File of the bearer token that the office asks for, if it asks for one."
    )
    poll_interval_s: float = Field(
        default=60.0, ge=1, le=86_400, description="Seconds between two questions to the office."
    )
    timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="Seconds within which the whole state must have come."
    )


UserOfficeConfig = Annotated[CsvOfficeConfig | RestOfficeConfig, Field(discriminator="kind")]
"""Where proposals and memberships come from."""


class HarvestRoot(Section):
    """A folder whose NeXus files are catalogued."""

    pool: SectionName = Field(description="Pool in which the folder lies.")
    path: RelativePath | None = Field(
        default=None, description="Folder below the pool's root; the whole pool when absent."
    )


class AuditConfig(Section):
    """How long it is kept who did what."""

    security_log_months: int = Field(
        default=12, ge=1, le=120, description="Months after which an entry of the audit is removed."
    )
    ended_session_months: int = Field(
        default=13, ge=1, le=120, description="Months after which the row of an ended session is removed."
    )


class CatalogueConfig(Section):
    """The catalogue."""

    policy_file: AbsolutePath = Field(description="The data policy, a YAML file of its own.")
    user_offices: tuple[UserOfficeConfig, ...] = Field(
        min_length=1, description="Where proposals and memberships come from; names are unique."
    )
    harvest_roots: tuple[HarvestRoot, ...] = ()
    sources: tuple[CatalogueSourceConfig, ...] = Field(
        default=(), max_length=50, description="Other catalogues that are mirrored here; names are unique."
    )
    audit: AuditConfig = AuditConfig()
    publication: PublicationConfig | None = Field(
        default=None,
        description="What harvesters and DataCite are told; absent: nothing, and `/oai` is not there.",
    )
    nexus_mapping_file: AbsolutePath | None = Field(
        default=None,
        description="YAML of what is kept of a NeXus file; docs/reference/nexus-mapping.md. "
        "Absent: the mapping that comes with the package.",
    )
    unfinished_wait_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds since its last change before a file that cannot be read counts as damaged, "
        "not as being written.",
    )
    harvest_files_per_s: float | None = Field(
        default=None, gt=0, description="Most files read in a second, where storage must be spared."
    )
    harvest_interval_s: float = Field(
        default=30.0, gt=0, description="Seconds between two looks at the harvest roots."
    )
    reader_memory_mib: int = Field(
        default=1024, ge=256, description="Memory limit of the child that parses one file."
    )
    reader_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds within which one file must be parsed."
    )
