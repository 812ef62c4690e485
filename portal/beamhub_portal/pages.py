"""From a template and its facts to an HTML answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from beamhub_core.clock import Clock
from beamhub_core.config import FacilityConfig
from beamhub_core.rights import Refusal
from beamhub_portal import words
from beamhub_portal.local_path import path_of
from beamhub_portal.visitor import Visitor

STATIC_FOLDER = Path(__file__).resolve().parent / "static"

REFUSAL_STATUS = {
    "not_found": 404,
    "no_place": 503,
    "full": 503,
    "unavailable": 503,
    "over_quota": 403,
    "bad_request": 400,
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a browser finds things; paths on the host that it came to."""

    base: str
    hub: str
    """Path of the hub, e.g. '/hub'."""
    users: str
    """Path below which servers lie, e.g. '/user'."""
    styles: str
    """The hub's Bootstrap, from the portal where it is installed, else from the hub."""

    def page(self, *components: str) -> str:
        """A page of ours."""
        return path_of(self.base, *components)

    def notebook(self, account: str, server: str) -> str:
        """Where a running server opens its notebook."""
        return path_of(self.users, account, server, "beamhub", "open")

    def desktop(self, account: str, server: str) -> str:
        """Where a running server whose image has one shows its desktop."""
        return path_of(self.users, account, server, "desktop") + "/"


def browser_base(config: FacilityConfig) -> str:
    """The portal's path as browsers see it: below the path, if any, of the public URL."""
    return urlsplit(config.hub.public_url).path.rstrip("/") + config.web.base_path


def find_addresses(config: FacilityConfig, *, hub_styles_here: bool) -> Addresses:
    """The addresses of a configuration; the hub's path is read off the address of its API."""
    hub = urlsplit(config.web.hub_api_url).path.rstrip("/").removesuffix("/api") or "/hub"
    base = browser_base(config)
    styles = f"{base}/static/hub.css" if hub_styles_here else f"{hub}/static/css/style.min.css"
    return Addresses(base=base, hub=hub, users=hub.removesuffix("/hub") + "/user", styles=styles)


class Pages:
    """Renders the portal's templates; every value is escaped, no template says otherwise.

    `clock` is the policy's present (embargo dates), `wall_clock` the machine's (sessions).
    """

    def __init__(self, config: FacilityConfig, clock: Clock, wall_clock: Clock, addresses: Addresses) -> None:
        self._clock, self._wall_clock, self.addresses = clock, wall_clock, addresses
        self.zone = ZoneInfo(config.timezone)
        self._environment = Environment(
            loader=PackageLoader("beamhub_portal"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            size=words.size_words,
            day=partial(words.date_words, zone=self.zone),
            iso_day=partial(words.iso_day, zone=self.zone),
            embargo=partial(words.embargo_words, zone=self.zone),
            instant=lambda moment: moment.astimezone(self.zone).isoformat(timespec="seconds"),
            clock_time=lambda moment: moment.astimezone(self.zone).strftime("%H:%M"),
        )
        self._environment.globals.update(
            facility=config.name,
            address=addresses,
            static_version=_static_version(),
            quantity=words.quantity_words,
        )

    def answer(
        self, request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **facts: Any
    ) -> HTMLResponse:
        """One page, never kept by a cache."""
        context = {
            "visitor": visitor,
            "login_address": self.login_address(request),
            "here": request.url.path,
            "from_now": partial(words.from_now, now=self._clock()),
            "time_left": partial(words.time_left, now=self._wall_clock()),
            **facts,
        }
        html = self._environment.get_template(template).render(context)
        return HTMLResponse(html, status_code=status)

    def login_address(self, request: Request) -> str:
        """The login that leads back to this page."""
        return f"{self.addresses.page('login')}?next={quote(self._here(request), safe='/')}"

    def step_up_address(self, request: Request, required_acr: tuple[str, ...]) -> str | None:
        """The hub's login that asks for a stronger authentication and leads back; None where none helps."""
        if not required_acr:
            return None
        wanted = {"acr": " ".join(required_acr), "next": self._here(request)}
        return f"{self.addresses.hub}/login?{urlencode(wanted, quote_via=quote)}"

    @staticmethod
    def _here(request: Request) -> str:
        return request.url.path + (f"?{request.url.query}" if request.url.query else "")

    def refusal(self, request: Request, visitor: Visitor | None, refusal: Refusal) -> HTMLResponse:
        """The page of a refusal.

        A `not_found` page says nothing that depends on what was asked for: neither the pid nor an address
        that holds it, so that a hidden dataset and one that never was look alike.
        """
        status = REFUSAL_STATUS.get(refusal.code, 403)
        facts: dict[str, Any] = {"refusal": refusal, "title": words.REFUSAL_TITLES[refusal.code]}
        if refusal.code == "not_found":
            facts.update(login_address=self.addresses.page("login"), here="")
        facts["step_up_address"] = self.step_up_address(request, refusal.required_acr)
        return self.answer(request, "refusal.html", visitor, status=status, **facts)


def _static_version() -> str:
    """Changes whenever a static file does, so that browsers may keep the files."""
    digest = hashlib.sha256()
    for path in sorted(STATIC_FOLDER.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
