"""The portal: the web pages, and the one web service that serves them beside the catalogue's APIs."""

from beamhub_portal.app import build_app

__all__ = ["build_app"]
