"""The one web service: pages and search API below the base path, search and internal API at the root."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from beamhub_catalogue.service import CatalogueService
from beamhub_core.clock import Clock, utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import ConfigInvalid
from beamhub_portal.about_routes import about_router
from beamhub_portal.audit_routes import audit_router
from beamhub_portal.error_pages import ErrorPages
from beamhub_portal.guards import BodyBound, FaultGuard, SecurityHeaders
from beamhub_portal.hub_client import HubClient
from beamhub_portal.keys import build_keys, read_secret
from beamhub_portal.landing_routes import landing_router
from beamhub_portal.login_routes import login_router
from beamhub_portal.open_routes import open_router
from beamhub_portal.pages import STATIC_FOLDER, Pages, browser_base, find_addresses
from beamhub_portal.portal import Portal
from beamhub_portal.queue_starter import QueueStarter
from beamhub_portal.search_routes import search_router
from beamhub_portal.session_routes import session_router
from beamhub_portal.visitor import USER_CACHE_S, Visitors
from beamhub_portal.visits import Visits

ROOT_PATHS = ("internal", "api")
BUSY_TIMEOUT_S = 15.0
_IMPORT = re.compile(r"@import[^;]*;")


def build_app(
    config: FacilityConfig,
    service: CatalogueService,
    *,
    wall_clock: Clock = utc_now,
    user_cache_s: float = USER_CACHE_S,
) -> FastAPI:
    """The web service's application; its lifespan starts and stops `service` and gives connections back.

    Parameters
    ----------
    config:
        The facility's configuration; the secrets it names are read here.
    service:
        The catalogue, not yet started.
    wall_clock:
        The machine's clock, by which logins and sessions end; embargo dates go by the service's clock.
    user_cache_s:
        For how long the hub's answer about a person counts.

    Raises
    ------
    ConfigInvalid
        If a secret cannot be read, or the base path would put the internal API before browsers.
    """
    base = browser_base(config)
    if not config.web.base_path or base.split("/")[1] in ROOT_PATHS:
        raise ConfigInvalid("web.base_path", ("it must be a path of its own, such as '/services/web'",))
    hub_styles = find_hub_styles()
    engine = _visits_engine(config.web.database_url) or service.database.engine
    portal = _build_portal(config, service, wall_clock, engine, user_cache_s, hub_styles)
    starter = QueueStarter(service.queue, portal.hub, config.sessions.queue.look_interval_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        starter.start()
        try:
            yield
        finally:
            await run_in_threadpool(starter.stop)
            await run_in_threadpool(service.stop)
            portal.hub.close()
            portal.visits.close()

    app = FastAPI(title=config.name, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.portal = portal
    _add_routes(app, portal, hub_styles)
    errors = ErrorPages(portal)
    errors.add_to(app)
    # The layer added last is the outermost.
    app.add_middleware(BodyBound)
    app.add_middleware(FaultGuard, page=errors.fault)
    secure = urlsplit(config.hub.public_url).scheme == "https"
    app.add_middleware(SecurityHeaders, secure=secure, static_path=f"{base}/static")
    return app


def _build_portal(
    config: FacilityConfig,
    service: CatalogueService,
    wall_clock: Clock,
    engine: Engine,
    user_cache_s: float,
    hub_styles: Path | None,
) -> Portal:
    keys = build_keys(read_secret(config.web.cookie_secret_file, "web.cookie_secret_file"))
    token = read_secret(config.web.hub_service_token_file, "web.hub_service_token_file")
    hub = HubClient(config.web.hub_api_url, token)
    visits = Visits(engine, keys.tokens, wall_clock)
    secure = urlsplit(config.hub.public_url).scheme == "https"
    cookie = "__Secure-beamhub-portal" if secure else "beamhub-portal"
    visitors = Visitors(service, hub, visits, keys, cookie_name=cookie, user_cache_s=user_cache_s)
    pages = Pages(
        config, service.clock, wall_clock, find_addresses(config, hub_styles_here=hub_styles is not None)
    )
    return Portal(config, service, wall_clock, keys, hub, visits, visitors, pages)


def _visits_engine(url: str) -> Engine | None:
    """On SQLite an engine for the visits alone, which waits for the catalogue's writers; else none."""
    if make_url(url).get_backend_name() != "sqlite":
        return None
    return create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)


def find_hub_styles() -> Path | None:
    """The Bootstrap build that JupyterHub installs beside its pages; None where no hub is installed."""
    for scheme in sysconfig.get_scheme_names():
        try:
            data = sysconfig.get_path("data", scheme)
        except KeyError:
            continue
        path = Path(data) / "share" / "jupyterhub" / "static" / "css" / "style.min.css"
        if path.is_file():
            return path
    return None


def read_styles(path: Path) -> str:
    """The hub's style sheet without the icon fonts that it imports; the portal has no use for them."""
    return _IMPORT.sub("", path.read_text(encoding="utf-8-sig"))


def _add_routes(app: FastAPI, portal: Portal, hub_styles: Path | None) -> None:
    base = portal.pages.addresses.base
    api = portal.service.api_router(portal.visitors.resolve_principal)
    app.include_router(api)
    app.include_router(api, prefix=base)
    app.include_router(portal.service.internal_router())
    secret = read_secret(portal.config.web.cookie_secret_file, "web.cookie_secret_file")
    harvested = portal.service.publication.oai_router(secret)
    app.include_router(harvested)
    app.include_router(harvested, prefix=base)
    for router in (
        search_router,
        landing_router,
        login_router,
        open_router,
        session_router,
        audit_router,
        about_router,
    ):
        app.include_router(router(portal), prefix=base)

    @app.get(base)
    def front() -> Response:
        return RedirectResponse(base + "/", status_code=308)

    if hub_styles is not None:
        styles = read_styles(hub_styles)

        @app.get(f"{base}/static/hub.css")
        def hub_css() -> Response:
            return Response(styles, media_type="text/css")

    app.mount(f"{base}/static", StaticFiles(directory=STATIC_FOLDER))
