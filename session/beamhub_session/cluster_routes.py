"""The routes of clusters: `beamhub/clusters`, their dashboards below it, and their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

from beamhub_session.clusters import ClusterDoors, ClusterGone, is_page, is_static, is_version
from beamhub_session.page import clusters_page, problem_page

RESOURCE = "beamhub"
ID = r"([0-9a-f]{32})"
MAX_MESSAGE_BYTES = 16 * 1024**2
PROTOCOL = "bokeh"
MAX_TOKEN = 8192


class _ClusterRoute(JupyterHandler):
    """What the routes share. Looking at a cluster is no activity: a forgotten tab keeps nothing alive."""

    auth_resource = RESOURCE
    _track_activity = False

    def initialize(self, doors: ClusterDoors) -> None:
        """Receive the session's doors."""
        self.doors = doors

    async def explain(self, error: ClusterGone) -> None:
        """A page that says what is wrong."""
        self.set_status(404)
        back = url_path_join(self.base_url, "beamhub/clusters")
        await self.finish(
            problem_page(
                message=str(error),
                advice="Look at the list of clusters.",
                reference=error.cluster,
                lab_url=back,
                title="There is no such cluster",
                action="Clusters of this session",
            )
        )


class ClustersHandler(_ClusterRoute):
    """`GET beamhub/clusters`: every cluster of this session, with its dashboards and its end."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the page."""
        seen = await self.doors.seen()
        base = url_path_join(self.base_url, "beamhub/clusters")
        self.set_header("Cache-Control", "no-store")
        await self.finish(clusters_page(seen, base=base, xsrf_token=self.xsrf_token.decode()))


class StopClusterHandler(_ClusterRoute):
    """`POST beamhub/clusters/ID/stop`: end a cluster, also while its notebook's kernel is busy."""

    @web.authenticated
    @authorized
    async def post(self, cluster: str) -> None:
        """Tell the scheduler, and lead back to the list."""
        try:
            await self.doors.stop(cluster)
        except ClusterGone as error:
            await self.explain(error)
            return
        self.redirect(url_path_join(self.base_url, "beamhub/clusters"), status=303)


class DashboardHandler(_ClusterRoute):
    """`GET beamhub/clusters/ID/PAGE`: one page of a scheduler's dashboards, or a file of it."""

    @web.authenticated
    @authorized
    async def get(self, cluster: str, path: str) -> None:
        """Answer with what the scheduler gives; its cookies, redirects and other headers stay there."""
        query = self.request.query
        if not ((is_page(path) and not query) or (is_static(path) and is_version(query))):
            raise web.HTTPError(404)
        try:
            answer = await self.doors.page(cluster, path, query)
        except ClusterGone as error:
            await self.explain(error)
            return
        if answer.code != 200:
            raise web.HTTPError(404)
        self.set_header("Content-Type", answer.headers.get("Content-Type", "text/plain")[:200])
        self.set_header("Cache-Control", "no-store" if is_page(path) else "private, max-age=3600")
        await self.finish(answer.body)


class DashboardSocket(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """`beamhub/clusters/ID/PAGE/ws`: the websocket over which a page of the dashboards is drawn."""

    auth_resource = RESOURCE
    _track_activity = False
    _other: WebSocketClientConnection | None = None

    def initialize(self, doors: ClusterDoors) -> None:
        """Receive the session's doors."""
        self.doors = doors

    @ws_authenticated
    async def get(self, cluster: str, path: str) -> None:
        """Connect to the scheduler first; then greet the browser."""
        user = self.current_user
        if self.authorizer is None or not self.authorizer.is_authorized(self, user, "read", RESOURCE):
            raise web.HTTPError(403)
        origin = self.get_origin()
        if origin is not None and not self.check_origin(origin):
            raise web.HTTPError(403)  # before the scheduler hears of it
        words = [word.strip() for word in self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if not is_page(path) or words[:1] != [PROTOCOL] or len(words) != 2 or len(words[1]) > MAX_TOKEN:
            raise web.HTTPError(404)
        try:
            record = self.doors.find(cluster)
            await self.doors.make_ready(record)
            self._other = await websocket_connect(
                self.doors.request(record, "wss", f"{path}/ws"),
                on_message_callback=self._from_scheduler,
                max_message_size=MAX_MESSAGE_BYTES,
                subprotocols=words,
            )
        except (ClusterGone, OSError, web.HTTPError):
            raise web.HTTPError(404) from None
        await super().get(cluster, path)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Bokeh's own."""
        return PROTOCOL if PROTOCOL in subprotocols else None

    async def on_message(self, message: str | bytes) -> None:
        """Pass on what the browser says."""
        if self._other is not None:
            await self._other.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        """The browser went: so does the connection to the scheduler."""
        if self._other is not None:
            self._other.close()
        super().on_close()

    def _from_scheduler(self, message: str | bytes | None) -> None:
        if message is None:
            self.close()
        elif self.ws_connection is not None:
            self.write_message(message, binary=isinstance(message, bytes))


class ClusterFactsHandler(APIHandler):
    """`GET beamhub/clusters.json`: what the page shows, for JupyterLab's status bar."""

    auth_resource = RESOURCE
    _track_activity = False

    def initialize(self, doors: ClusterDoors) -> None:
        """Receive the session's doors."""
        self.doors = doors

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with a list; no secret of a record is in it."""
        self.set_header("Cache-Control", "no-store")
        clusters = [
            {
                "id": one.record.id,
                "kind": one.record.kind,
                "now": one.now.model_dump() if one.now is not None else None,
            }
            for one in await self.doors.seen()
        ]
        await self.finish({"clusters": clusters})


def build_cluster_routes(base_url: str, doors: ClusterDoors) -> list[tuple[str, Any, dict[str, Any]]]:
    """The routes as Tornado takes them."""
    routes: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("clusters", ClustersHandler),
        (r"clusters\.json", ClusterFactsHandler),
        (rf"clusters/{ID}/stop", StopClusterHandler),
        (rf"clusters/{ID}/([a-z-]+)/ws", DashboardSocket),
        (rf"clusters/{ID}/([A-Za-z0-9@_./-]+)", DashboardHandler),
    )
    return [(url_path_join(base_url, "beamhub", path), handler, {"doors": doors}) for path, handler in routes]
