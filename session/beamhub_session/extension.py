"""The Jupyter server extension: writes the planned notebook when the server starts, and adds the routes.

Enabled on the command line of the server, `--ServerApp.jpserver_extensions=beamhub_session=True`. Beside the
routes it keeps the contact with web (time left, idleness), and has JupyterLab load what shows it.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from beamhub_core.cluster_record import records_folder
from beamhub_session.activity import ActivityProbe, count_deeds_only
from beamhub_session.cluster_routes import build_cluster_routes
from beamhub_session.clusters import ClusterDoors
from beamhub_session.errors import SessionProblem, SessionUnknown
from beamhub_session.first_cell import FirstCell
from beamhub_session.handlers import build_routes
from beamhub_session.job_runner import JobRunner
from beamhub_session.knowledge import Sources, read_session
from beamhub_session.life import SessionLife
from beamhub_session.life_handlers import build_life_routes
from beamhub_session.service import TemplateOpener
from beamhub_session.web_link import WebLink

LAB_EXTENSIONS = Path(__file__).parent / "labextensions"
_tasks: set[asyncio.Task[None]] = set()
"""Keeps the task of `start_life` from being collected."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter server which module holds the extension."""
    return [{"module": "beamhub_session.extension"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """Instantiate the template and add the routes; a template that fails never stops the server."""
    sources = Sources.from_environment(os.environ)
    opener = TemplateOpener(sources, Path(serverapp.root_dir))
    base_url = serverapp.web_app.settings["base_url"]
    life = _build_life(serverapp, sources)
    opener.when_opened, opener.known_end = life.opened, lambda: life.expires_at
    serverapp.web_app.add_handlers(".*$", build_routes(base_url, opener))
    serverapp.web_app.add_handlers(".*$", build_life_routes(base_url, life))
    doors = ClusterDoors(records_folder(os.environ))
    serverapp.web_app.add_handlers(".*$", build_cluster_routes(base_url, doors))
    offer_to_lab(serverapp)
    try:
        path = opener.open()
    except SessionUnknown as error:
        serverapp.log.info("beamhub: no template to open. %s", error)
    except SessionProblem as error:
        serverapp.log.warning("beamhub: the template is not open. %s", error)
    else:
        serverapp.log.info("beamhub: notebook %s", path)
    if trace := os.environ.get("TRACEPARENT", ""):
        serverapp.log.info("beamhub: trace %s", trace[:60])


def _build_life(serverapp: Any, sources: Sources) -> SessionLife:
    def file_end() -> datetime | None:
        try:
            return read_session(sources).expires_at
        except SessionUnknown:
            return None

    count_deeds_only()
    first_cell = FirstCell(serverapp)
    runner = _job_runner(sources)
    has_job = (lambda: runner.is_busy) if runner is not None else (lambda: False)
    probe = ActivityProbe(serverapp, has_job=has_job)
    life = SessionLife(
        WebLink.from_environment(os.environ),
        probe.look,
        lambda: first_cell.ago_s,
        file_end,
        lambda: runner.reports if runner is not None else (),
    )

    if runner is not None:
        runner.when_changed = life.hurry

    def start_life() -> None:
        first_cell.listen(life.opened)
        for work in (life, *((runner,) if runner is not None else ())):
            task = asyncio.ensure_future(work.run())
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

    serverapp.io_loop.add_callback(start_life)
    return life


def _job_runner(sources: Sources) -> JobRunner | None:
    """The runner of the session's long jobs; None for an ordinary server."""
    try:
        info = read_session(sources)
    except SessionUnknown:
        return None
    return JobRunner(Path(info.home), os.environ.get("JUPYTERHUB_SERVER_NAME", ""))


def offer_to_lab(serverapp: Any) -> None:
    """Have JupyterLab load the part that shows a session's time; nothing without JupyterLab.

    The folder lies in this package, so that one installation serves every interpreter's prefix. Extensions
    are loaded in the order of their names, this one before JupyterLab.
    """
    for app in serverapp.extension_manager.extension_apps.get("jupyterlab", ()):
        folders = list(app.extra_labextensions_path)
        if str(LAB_EXTENSIONS) not in folders:
            app.extra_labextensions_path = [*folders, str(LAB_EXTENSIONS)]
            serverapp.log.info("beamhub: JupyterLab shows the time left of this session")
