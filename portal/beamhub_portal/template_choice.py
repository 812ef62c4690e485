"""Which templates and profiles a person is offered."""

from __future__ import annotations

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import ProfileConfig, TemplateConfig
from beamhub_core.identity import Principal


def fitting_templates(config: FacilityConfig, technique: str) -> tuple[TemplateConfig, ...]:
    """The templates made for a technique, in the configuration's order."""
    return tuple(one for one in config.sessions.templates if one.technique == technique)


def open_profiles(config: FacilityConfig, principal: Principal) -> tuple[ProfileConfig, ...]:
    """The profiles that a person's facility roles may use; the hub checks this again at the start."""
    held = {"everyone", *principal.roles}
    return tuple(one for one in config.sessions.profiles if held.intersection(one.roles))
