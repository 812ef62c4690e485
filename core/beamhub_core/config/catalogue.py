"""Policy, user office and harvest."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from beamhub_core.config.section import AbsolutePath, Section, SectionName
from beamhub_core.rights import RelativePath


class UserOfficeConfig(Section):
    """Where proposals and memberships come from."""

    name: SectionName = Field(description="Name of the user office; memberships carry it as their source.")
    kind: Literal["csv"] = Field(description="How it is read.")
    proposals: AbsolutePath = Field(description="CSV of proposals.")
    members: AbsolutePath = Field(description="CSV of memberships.")


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
    user_offices: tuple[UserOfficeConfig, ...] = Field(min_length=1)
    harvest_roots: tuple[HarvestRoot, ...] = ()
    audit: AuditConfig = AuditConfig()
    harvest_interval_s: float = Field(
        default=30.0, gt=0, description="Seconds between two looks at the harvest roots."
    )
    reader_memory_mib: int = Field(
        default=1024, ge=256, description="Memory limit of the child that parses one file."
    )
    reader_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds within which one file must be parsed."
    )
