"""The Jupyter server extension: writes the planned notebook when the server starts, and adds the routes.

Enabled on the command line of the server, `--ServerApp.jpserver_extensions=beamhub_session=True`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from beamhub_session.errors import SessionProblem, SessionUnknown
from beamhub_session.handlers import build_routes
from beamhub_session.knowledge import Sources
from beamhub_session.service import TemplateOpener


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter server which module holds the extension."""
    return [{"module": "beamhub_session.extension"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """Instantiate the template and add the routes; a template that fails never stops the server."""
    opener = TemplateOpener(Sources.from_environment(os.environ), Path(serverapp.root_dir))
    serverapp.web_app.add_handlers(".*$", build_routes(serverapp.web_app.settings["base_url"], opener))
    try:
        path = opener.open()
    except SessionUnknown as error:
        serverapp.log.info("beamhub: no template to open. %s", error)
    except SessionProblem as error:
        serverapp.log.warning("beamhub: the template is not open. %s", error)
    else:
        serverapp.log.info("beamhub: notebook %s", path)
