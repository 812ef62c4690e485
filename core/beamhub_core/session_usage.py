"""What sessions have used, as the gateway tells web and web keeps it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from beamhub_core.word import Word

MAX_TOLD = 1_000
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]


class ClusterUsage(Word):
    """What the clusters of one session have used in all, from the session's start until now."""

    plan_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    core_s: Amount = Field(description="Processor cores by seconds, held or busy.")
    memory_gib_s: Amount = Field(description="GiB of memory by seconds, held or busy.")


class UsageReport(Word):
    """Sums, never differences: told twice they count once."""

    sessions: tuple[ClusterUsage, ...] = Field(max_length=MAX_TOLD)
