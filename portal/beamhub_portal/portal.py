"""What every route of the portal needs, and how it stops when somebody may not go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from beamhub_catalogue.service import CatalogueService
from beamhub_core.clock import Clock
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.rights import Refusal, RefusalCode, Refused
from beamhub_portal.guards import new_reference
from beamhub_portal.hub_client import HubClient
from beamhub_portal.keys import Keys
from beamhub_portal.pages import Pages
from beamhub_portal.visitor import Visitor, Visitors
from beamhub_portal.visits import Visits

MAX_FIELDS = 80
XSRF_FIELD = "_xsrf"


@dataclass(frozen=True, slots=True)
class Portal:
    """The parts of one portal."""

    config: FacilityConfig
    service: CatalogueService
    wall_clock: Clock
    keys: Keys
    hub: HubClient
    visits: Visits
    visitors: Visitors
    pages: Pages

    def require_visitor(self, request: Request) -> Visitor:
        """The person who is logged in; raises `LoginNeeded` when nobody is."""
        visitor = self.visitors.of(request)
        if visitor is None:
            raise LoginNeeded
        return visitor

    def require_form(self, request: Request, form: Form) -> Visitor:
        """The person who sent one of our own forms; raises `LoginNeeded` or `ForeignForm`."""
        visitor = self.require_visitor(request)
        site = request.headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") or not self.visitors.check_form(visitor, form.one(XSRF_FIELD)):
            raise ForeignForm
        return visitor


class LoginNeeded(BeamhubError):
    """The page is for people who are logged in."""


class ForeignForm(BeamhubError):
    """A form came without the token of the visit, so perhaps from another site."""

    exit_code = 4


def refuse(code: RefusalCode, reason: str, subject: str = "") -> Refused:
    """A refusal to raise, with a fresh reference."""
    return Refused(Refusal(code=code, subject=subject[:300], reason=reason[:500], reference=new_reference()))


@dataclass(frozen=True, slots=True)
class Form:
    """The text fields of a form."""

    fields: Mapping[str, tuple[str, ...]]

    def one(self, name: str) -> str | None:
        """A field's only value; None when it is absent, empty or given twice."""
        values = self.fields.get(name, ())
        return values[0] if len(values) == 1 and values[0] else None

    def many(self, name: str) -> tuple[str, ...]:
        """All values of a field that are not empty."""
        return tuple(value for value in self.fields.get(name, ()) if value)


async def _read_form(request: Request) -> Form:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind and request.headers.get("content-length") == "0":
        return Form({})
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415)
    async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
        return Form(_texts(form))


def _texts(form: FormData) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(value for value in form.getlist(name) if not isinstance(value, UploadFile))
        for name in form
    }


SentForm = Annotated[Form, Depends(_read_form)]
