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


class CatalogueConfig(Section):
    """The catalogue."""

    policy_file: AbsolutePath = Field(description="The data policy, a YAML file of its own.")
    user_offices: tuple[UserOfficeConfig, ...] = Field(min_length=1)
    harvest_roots: tuple[HarvestRoot, ...] = ()
    harvest_interval_s: float = Field(
        default=30.0, gt=0, description="Seconds between two looks at the harvest roots."
    )
    reader_memory_mib: int = Field(
        default=1024, ge=256, description="Memory limit of the child that parses one file."
    )
    reader_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds within which one file must be parsed."
    )
