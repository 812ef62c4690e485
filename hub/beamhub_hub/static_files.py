"""Where the files of the hub's pages lie."""

from __future__ import annotations

from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parent
STATIC_FOLDER = PACKAGE_FOLDER / "static"
TEMPLATES_FOLDER = PACKAGE_FOLDER / "templates"
STATIC_PATH = "/beamhub-static"
