"""JupyterHub with our wiring, and with the refresher beside it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from jupyterhub.app import JupyterHub
from jupyterhub.handlers import BaseHandler
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from beamhub_core.config import FacilityConfig
from beamhub_hub.log_redaction import redact_log
from beamhub_hub.refresher import Refresher
from beamhub_hub.secret_files import read_secret
from beamhub_hub.wiring import configure

EXTRA_FOLDER = "jupyterhub_config.d"
# JupyterHub 6.1.1 asks a request by cookie for this when its refresh is refused, and sets it for tokens
# only: the request then counts as nobody's, as it should, but by an AttributeError with a traceback.
if not hasattr(BaseHandler, "_token_authenticated"):
    BaseHandler._token_authenticated = False


class BeamhubHub(JupyterHub):  # type: ignore[misc]  # JupyterHub is untyped
    """One hub of one facility; `prepare` comes before `launch_instance`."""

    name = "jupyterhub"
    wired: Config
    facility: FacilityConfig
    _refresher: asyncio.Task[None] | None = None

    @classmethod
    def prepare(cls, facility: FacilityConfig, config_file: Path) -> None:
        """Compute the settings while an error can still be one clear line."""
        cls.facility = facility
        if facility.hub.database_password_file is not None:
            # Alembic, with which JupyterHub marks its tables, connects by itself, from the URL alone.
            os.environ["PGPASSWORD"] = read_secret(facility.hub.database_password_file)
        wired = Config()
        configure(wired, facility)
        for path in extra_config_files(config_file):
            wired.merge(PyFileConfigLoader(path.name, path=str(path.parent)).load_config())
        cls.wired = wired

    def load_config_file(self, filename: str, path: Any = None) -> None:
        """Take the prepared settings; a `jupyterhub_config.py` lying around is nobody's word here."""
        settings = Config()
        settings.merge(self.wired)
        settings.merge(self.cli_config)
        self.update_config(settings)

    def init_logging(self) -> None:
        """Set up the log as JupyterHub does, without the values that no log of ours holds."""
        super().init_logging()
        redact_log(self.log)

    async def start(self) -> None:
        """Start the hub, then the refresher."""
        await super().start()
        refresher = Refresher(self, interval_s=self.facility.login.refresh_s)
        # The hub cancels every task of its loop when it ends.
        self._refresher = asyncio.create_task(refresher.run(), name="beamhub-refresher")


def extra_config_files(config_file: Path) -> list[Path]:
    """The facility's own `jupyterhub_config.d/*.py` beside `facility.yaml`, loaded last, in name order."""
    folder = config_file.resolve().parent / EXTRA_FOLDER
    return sorted(folder.glob("*.py")) if folder.is_dir() else []
