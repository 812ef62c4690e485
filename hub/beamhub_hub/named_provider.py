"""A provider by its name in the configuration."""

from __future__ import annotations

from beamhub_core.config import FacilityConfig
from beamhub_core.config.facility import nearest
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.errors import BeamhubError


class ProviderUnknown(BeamhubError):
    """No provider has this name."""

    exit_code = 3

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        hint = nearest(self.name, self.known)
        return f"No provider is called {self.name!r}{hint}. There are: {', '.join(self.known)}."


def find_provider(config: FacilityConfig, name: str | None) -> ProviderConfig:
    """The provider of a name; the first one where no name is given. Raises `ProviderUnknown`."""
    for provider in config.login.providers:
        if name in (None, provider.name):
            return provider
    raise ProviderUnknown(str(name), tuple(provider.name for provider in config.login.providers))
