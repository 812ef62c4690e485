"""Which templates and profiles a person is offered."""

from __future__ import annotations

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import EnvironmentConfig, ProfileConfig, TemplateConfig
from beamhub_core.identity import Principal


def fitting_templates(config: FacilityConfig, technique: str) -> tuple[TemplateConfig, ...]:
    """The templates made for a technique, in the configuration's order."""
    return tuple(one for one in config.sessions.templates if one.technique == technique)


def open_profiles(config: FacilityConfig, principal: Principal) -> tuple[ProfileConfig, ...]:
    """The profiles that a person's facility roles may use; the hub checks this again at the start."""
    held = {"everyone", *principal.roles}
    return tuple(one for one in config.sessions.profiles if held.intersection(one.roles))


def open_environments(config: FacilityConfig, principal: Principal) -> tuple[EnvironmentConfig, ...]:
    """The environments that a person's roles may use, in a profile that is open to them and allows it."""
    held = {"everyone", *principal.roles}
    profiles = open_profiles(config, principal)
    return tuple(
        one
        for one in config.sessions.environments
        if held.intersection(one.roles)
        and any(profile.environments is None or one.name in profile.environments for profile in profiles)
    )


def has_desktop(config: FacilityConfig, environment: str) -> bool:
    """Whether the image of an environment shows a desktop."""
    return any(one.desktop for one in config.sessions.environments if one.name == environment)
