"""The facility's configuration: one YAML file, one frozen model."""

from beamhub_core.config.facility import FacilityConfig
from beamhub_core.config.reading import read_config
from beamhub_core.config.section import Section

__all__ = ["FacilityConfig", "Section", "read_config"]
