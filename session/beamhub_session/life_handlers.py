"""The routes by which Lab shows a session's time: `beamhub/life`, below the server's base URL."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from beamhub_session.life import SessionLife
from beamhub_session.web_link import NotExtended

RESOURCE = "beamhub"


class _LifeRoute(APIHandler):
    """What the routes share. Looking at the time is no activity: a forgotten tab keeps nothing alive."""

    auth_resource = RESOURCE
    _track_activity = False

    def initialize(self, life: SessionLife) -> None:
        """Receive the server's life."""
        self.life = life

    async def answer(self) -> None:
        """The view, for this moment only."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        await self.finish(self.life.view().model_dump_json())


class LifeHandler(_LifeRoute):
    """`GET beamhub/life`: time left, what can be done about it, and what is about to happen."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with a `LifeView`."""
        self.life.opened()
        await self.answer()


class ExtendHandler(_LifeRoute):
    """`POST beamhub/life/extend`: extend the session as far as it may be; 409 with `message` where not."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Ask web, and answer with the new view."""
        try:
            await self.life.extend()
        except NotExtended as refused:
            self.set_status(409)
            await self.finish({"message": str(refused), "reason": None})
            return
        await self.answer()


class KeepHandler(_LifeRoute):
    """`POST beamhub/life/keep`: the session is in use although nothing happens in it."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Tell web, and answer with the new view."""
        await self.life.keep()
        await self.answer()


def build_life_routes(base_url: str, life: SessionLife) -> list[tuple[str, Any, dict[str, SessionLife]]]:
    """The routes as Tornado takes them."""
    handlers = (("life", LifeHandler), ("life/extend", ExtendHandler), ("life/keep", KeepHandler))
    return [(url_path_join(base_url, "beamhub", name), handler, {"life": life}) for name, handler in handlers]
