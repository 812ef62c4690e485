"""A result on its way back to the catalogue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from beamhub_core.word import Word


class Product(Word):
    """What a reduction made, from what, how, by whom and when.

    Stored in the file as NXprocess (NeXus base class) with the fields of W3C PROV:
    `inputs` are what it was derived from, `who` its agent, `plan_id` the activity.
    """

    pid: str = Field(
        description="'<facility>:<proposal>:product-<first 20 hex digits of sha256>' once harvested."
    )
    title: str
    proposal: str
    technique: str
    inputs: tuple[str, ...] = Field(min_length=1, description="pids of the datasets it was made from.")
    parameters: dict[str, Any]
    software: dict[str, str] = Field(description="Name to version.")
    environment: str
    image: str
    who: str
    account: str
    plan_id: str | None
    made_at: datetime
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int
    path: str
    evidence: tuple[tuple[str, str], ...] = Field(
        default=(), max_length=40, description="Figures of how sure it is: frames read, missing, corrupt, ..."
    )


class ProductNotice(Word):
    """A session tells web that it wrote a product."""

    path: str = Field(max_length=2048, description="Absolute path as the session sees it.")
