"""The platform's addresses as one provider must know them: what the hub sends and what is registered."""

from __future__ import annotations

from dataclasses import dataclass

from beamhub_core.config import FacilityConfig


@dataclass(frozen=True, slots=True)
class Addresses:
    """What is registered at the provider for this platform."""

    redirect_uri: str
    """Of this provider alone: each has its own (RFC 9700, 4.4.2.1, against mix-up)."""
    backchannel_logout_uri: str
    post_logout_redirect_uri: str


def addresses_of(config: FacilityConfig, provider: str) -> Addresses:
    """The addresses for the provider of a name."""
    login = f"{config.hub.public_url.rstrip('/')}/hub/login/{provider}"
    return Addresses(
        redirect_uri=f"{login}/callback",
        backchannel_logout_uri=f"{login}/backchannel",
        post_logout_redirect_uri=f"{login}/loggedout",
    )
