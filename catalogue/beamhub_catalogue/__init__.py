"""The catalogue: what data there is, who may know of it, and who may touch it."""

from beamhub_catalogue.service import CatalogueService

__all__ = ["CatalogueService"]
