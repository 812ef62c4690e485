"""What this room's parts get of the process that they live in: configuration, clock and web client."""

from __future__ import annotations

from dataclasses import dataclass

from beamhub_core.clock import Clock, shifted_clock, utc_now
from beamhub_core.config import FacilityConfig
from beamhub_spawners.web_client import WebClient


@dataclass(frozen=True, slots=True)
class Platform:
    """Configuration, clock and web client of one hub."""

    config: FacilityConfig
    clock: Clock
    web: WebClient


def clock_of(config: FacilityConfig) -> Clock:
    """The clock of a facility; a demonstration's may be shifted."""
    offset_file = config.web.unsafe_clock_offset_file
    return shifted_clock(offset_file) if offset_file is not None else utc_now


def build_web_client(config: FacilityConfig) -> WebClient:
    """A client of web's internal API with the hub's token.

    Raises
    ------
    OSError
        If the token's file cannot be read.
    """
    token = config.hub.web_client_token_file.read_text(encoding="utf-8").strip()
    return WebClient(config.web.internal_url, token)
