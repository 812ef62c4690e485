"""The catalogue: what data there is, who may know of it, and who may touch it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beamhub_catalogue.service import CatalogueService

__all__ = ["CatalogueService"]


def __getattr__(name: str) -> Any:
    """Load the service when first used: `beamhub --help` must not pay for database and web framework."""
    if name == "CatalogueService":
        from beamhub_catalogue.service import CatalogueService

        return CatalogueService
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
