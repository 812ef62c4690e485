"""Identities that sign in as another account: the words that hub and web speak of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from beamhub_core.identity import ACCOUNT_PATTERN, Identity
from beamhub_core.word import Word

MAX_LINKED = 15
"""Identities that may sign in as one account, beside its own."""
_Account = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]


class LinkedIdentity(Word):
    """An identity that signs in as the account that was asked about."""

    issuer: str = Field(max_length=512)
    subject: str = Field(max_length=512)
    account: _Account = Field(description="The account that is the identity's own; see account_name().")
    linked_at: datetime


class IdentityAnswer(Word):
    """As whom the identity of an account signs in, and which other identities sign in so."""

    account: _Account
    signs_in_as: _Account = Field(description="The account itself, unless its identity was linked.")
    identity: Identity | None = Field(
        description="The identity that `signs_in_as` was made for; none where web never saw it."
    )
    linked: tuple[LinkedIdentity, ...] = Field(
        default=(), max_length=MAX_LINKED, description="Who signs in as `signs_in_as`, oldest link first."
    )


class IdentityToLink(Word):
    """An identity that its owner showed while signed in as another account."""

    issuer: str = Field(min_length=1, max_length=512)
    subject: str = Field(min_length=1, max_length=512)
    signs_in_as: _Account
