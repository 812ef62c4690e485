"""The routes of the extension, below the server's base URL; every one needs a logged-in, authorised user."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_escape, url_path_join
from tornado import web

from beamhub_core.clock import utc_now
from beamhub_session.errors import SessionProblem, SessionUnknown
from beamhub_session.page import copy_page, problem_page
from beamhub_session.service import TemplateOpener

RESOURCE = "beamhub"
Answer = TypeVar("Answer")


async def _in_thread(call: Callable[[], Answer]) -> Answer:
    """Run what touches a file system away from the event loop: a hanging mount must not stop kernels."""
    return await asyncio.get_running_loop().run_in_executor(None, call)


class OpenHandler(JupyterHandler):
    """`GET beamhub/open` leads to the notebook; `?copy=ask` asks first, and `POST` makes a clean copy."""

    auth_resource = RESOURCE

    def initialize(self, opener: TemplateOpener) -> None:
        """Receive the server's opener."""
        self.opener = opener

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Lead the browser to the notebook, or to Lab when the session has none."""
        self.opener.when_opened()
        try:
            path = await _in_thread(self.opener.open)
        except SessionUnknown:
            self.redirect(self._lab_url(None))  # an ordinary Jupyter server
            return
        except SessionProblem as error:
            await self._explain(error)
            return
        if path is not None and self.get_argument("copy", "") == "ask":
            await self.finish(
                copy_page(
                    notebook=path,
                    action=url_path_join(self.base_url, "beamhub/open"),
                    xsrf_token=self.xsrf_token.decode(),
                    open_url=self._lab_url(path),
                )
            )
            return
        self.redirect(self._lab_url(path))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Write a clean copy of the template and lead to it."""
        try:
            path = await _in_thread(partial(self.opener.open, fresh_copy=True))
        except SessionProblem as error:
            await self._explain(error)
            return
        self.redirect(self._lab_url(path), status=303)

    def _lab_url(self, path: str | None) -> str:
        lab = url_path_join(self.base_url, "lab")
        return lab if path is None else url_path_join(lab, "tree", url_escape(path))

    async def _explain(self, error: SessionProblem) -> None:
        reference = secrets.token_hex(4)
        self.log.warning("template not open [%s]: %s", reference, error)
        self.set_status(error.status)
        await self.finish(
            problem_page(
                message=str(error), advice=error.advice, reference=reference, lab_url=self._lab_url(None)
            )
        )


class SessionHandler(APIHandler):
    """`GET beamhub/session`: what is mounted, what is enforced, and until when, as a `SessionView`."""

    auth_resource = RESOURCE

    def initialize(self, opener: TemplateOpener) -> None:
        """Receive the server's opener."""
        self.opener = opener

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with a `SessionView`, or 404 with `message` when there is no session."""
        try:
            view = await _in_thread(partial(self.opener.view, utc_now()))
        except SessionUnknown as error:
            self.set_status(error.status)
            await self.finish({"message": str(error), "reason": None})
            return
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        await self.finish(view.model_dump_json())


def build_routes(base_url: str, opener: TemplateOpener) -> list[tuple[str, Any, dict[str, TemplateOpener]]]:
    """The routes as Tornado takes them."""
    return [
        (url_path_join(base_url, "beamhub", name), handler, {"opener": opener})
        for name, handler in (("open", OpenHandler), ("session", SessionHandler))
    ]
