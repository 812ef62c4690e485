"""*Open in notebook*: the form that a link fills in, and the one click that starts a server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from beamhub_catalogue.views import DatasetView
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal, RefusalCode, Refused
from beamhub_core.session import SessionRequest, server_name_for
from beamhub_core.trace import begin_trace
from beamhub_portal.guards import new_reference
from beamhub_portal.hub_client import HubRefused
from beamhub_portal.login_routes import TRACE_COOKIE
from beamhub_portal.portal import Form, Portal, SentForm, refuse
from beamhub_portal.template_choice import fitting_templates, open_environments, open_profiles
from beamhub_portal.visitor import Visitor

log = logging.getLogger(__name__)

MAX_DISPLAY_NAME = 100
CHOICES = ("template", "profile", "environment")


def open_router(portal: Portal) -> APIRouter:
    """`open`: GET shows the form and starts nothing, POST starts."""
    router = APIRouter()

    @router.get("/open")
    def open_form(request: Request) -> Response:
        visitor = portal.require_visitor(request)
        principal = known_principal(visitor)
        wish = read_wish(
            tuple(request.query_params.getlist("pid")),
            {name: request.query_params.get(name) for name in CHOICES},
        )
        datasets = readable_datasets(portal, principal, wish.datasets)
        techniques = {dataset.technique for dataset in datasets}
        fitting = {one.name for term in techniques for one in fitting_templates(portal.config, term)}
        templates = sorted(portal.config.sessions.templates, key=lambda one: one.name not in fitting)
        profiles = open_profiles(portal.config, principal)
        environments = open_environments(portal.config, principal)
        name = server_name_for(wish.datasets)
        return portal.pages.answer(
            request,
            "open.html",
            visitor,
            wish=wish,
            datasets=datasets,
            templates=templates,
            fitting=fitting,
            chosen_template=wish.template or next((one.name for one in templates if one.name in fitting), ""),
            profiles=profiles,
            chosen_profile=wish.profile or (profiles[0].name if profiles else ""),
            environments=environments,
            chosen_environment=wish.environment or (environments[0].name if environments else ""),
            running=any(
                one.live and one.server_name == name for one in portal.service.sessions_of(visitor.account)
            ),
            pre_start=portal.config.sessions.pre_start,
        )

    @router.post("/open")
    def start(request: Request, form: SentForm) -> Response:
        return _start(portal, request, form)

    @router.post("/prepare")
    def prepare(request: Request, form: SentForm) -> Response:
        return _start(portal, request, form, prepare=True)

    return router


def _start(portal: Portal, request: Request, form: Form, *, prepare: bool = False) -> Response:
    """Have the hub start what a form names: to be opened now, or prepared for later."""
    visitor = portal.require_form(request, form)
    principal = known_principal(visitor)
    wish = read_wish(form.many("pid"), {name: form.one(name) for name in CHOICES})
    if prepare:
        check_preparing(portal)
        wish = wish.model_copy(update={"prepare": True})
    check_choices(portal, principal, wish)
    try:
        datasets = readable_datasets(portal, principal, wish.datasets)
    except Refused as refused:
        if refused.refusal.required_acr:  # the form's page says it too, at an address to come back to
            return RedirectResponse(_form_address(portal, wish), status_code=303)
        raise
    name = server_name_for(wish.datasets)
    title = datasets[0].title + (f" and {len(datasets) - 1} more" if len(datasets) > 1 else "")
    begin_trace(request.cookies.get(TRACE_COOKIE))
    launch = portal.pages.addresses.page("sessions", name, "launch")
    try:
        started = portal.hub.start(visitor.token, visitor.account, name, wish, title[:MAX_DISPLAY_NAME])
    except HubRefused as refused:
        if refused.code == "assurance_too_low":
            return RedirectResponse(_form_address(portal, wish), status_code=303)
        if refused.code == "full" and portal.service.queue.ticket(visitor.account, name) is not None:
            return RedirectResponse(launch, status_code=303)
        raise _explained(portal, visitor, name, refused) from None
    if started.already and not prepare:  # it may have been prepared: it is in use from now on
        portal.service.keep_session(visitor.account, name)
    target = portal.pages.addresses.page("sessions") + "?done=prepare" if prepare else launch
    response = RedirectResponse(target, status_code=303)
    response.delete_cookie(TRACE_COOKIE, path=portal.pages.addresses.base)
    return response


def check_preparing(portal: Portal) -> None:
    """Raise `Refused` where nothing is prepared, or people wait for room; the plan is looked at again."""
    if portal.config.sessions.pre_start is None:
        raise refuse("bad_request", "Preparing sessions is not offered here. Open the dataset instead.")
    if portal.service.queue.has_waiting():
        raise refuse("full", "People wait for room, so nothing is prepared now. Open the dataset instead.")


def _form_address(portal: Portal, wish: SessionRequest) -> str:
    """The form's page with what was asked for filled in."""
    chosen = [(name, value) for name in CHOICES if (value := getattr(wish, name)) is not None]
    query = urlencode([*(("pid", pid) for pid in wish.datasets), *chosen])
    return f"{portal.pages.addresses.page('open')}?{query}"


def known_principal(visitor: Visitor) -> Principal:
    """The person's identity; raises `Refused` when the hub never told it or ended it."""
    if visitor.principal is None:
        raise refuse("unavailable", "Your identity is not known here any more. Log out and in again.")
    return visitor.principal


def read_wish(pids: tuple[str, ...], choices: Mapping[str, str | None]) -> SessionRequest:
    """The request in a link or form; raises `Refused` with `bad_request` for what are no names."""
    if not pids:
        raise refuse("bad_request", "No dataset is named. Search for one and open it from its page.")
    try:
        return SessionRequest(
            datasets=tuple(dict.fromkeys(pids)), **{name: value or None for name, value in choices.items()}
        )
    except ValidationError:
        raise refuse(
            "bad_request",
            "The link does not name datasets, a template and a profile. Check how it was copied.",
        ) from None


def check_choices(portal: Portal, principal: Principal, wish: SessionRequest) -> None:
    """Raise `Refused` for a template, environment or profile that is not offered to this person."""
    sessions = portal.config.sessions
    if wish.template is not None and wish.template not in {one.name for one in sessions.templates}:
        raise refuse("bad_request", "The template is not known here. Choose one from the list.")
    if wish.environment is not None and wish.environment not in {one.name for one in sessions.environments}:
        raise refuse("bad_request", "The environment is not known here. Choose one from the list.")
    environments = open_environments(portal.config, principal)
    if wish.environment is not None and wish.environment not in {one.name for one in environments}:
        offered = ", ".join(one.title for one in environments) or "none; ask your local contact"
        raise refuse("profile_not_allowed", f"You can start these environments: {offered}.")
    if wish.profile is not None:
        profiles = open_profiles(portal.config, principal)
        if wish.profile not in {one.name for one in profiles}:
            offered = ", ".join(one.title for one in profiles) or "none; ask your local contact"
            raise refuse("profile_not_allowed", f"You can start: {offered}.")


def readable_datasets(portal: Portal, principal: Principal, pids: tuple[str, ...]) -> tuple[DatasetView, ...]:
    """The datasets, all of which the person may open now; raises `Refused` for the first that is not."""
    views = []
    for pid in pids:
        view = portal.service.dataset_page(principal, pid)
        if isinstance(view, Refusal):
            raise Refused(view)
        if not view.may_open:
            raise Refused(_closed(view))
        views.append(view)
    return tuple(views)


def _closed(view: DatasetView) -> Refusal:
    reference = new_reference()
    code: RefusalCode = view.refusal_code or "not_found"
    log.info("open refused [reference %s]", reference, extra={"pid": view.pid, "code": code})
    return Refusal(
        code=code,
        subject=view.title[:300],
        reason=(view.refusal or "You may not open this dataset.")[:500],
        until=view.embargo.opens_at if code == "embargoed" else None,
        reference=reference,
        required_acr=view.step_up,
    )


def _explained(portal: Portal, visitor: Visitor, name: str, refused: HubRefused) -> Refused:
    """The hub's refusal as a page; words only where one of our own processes spoke them."""
    code: RefusalCode = next((one for one in get_args(RefusalCode) if one == refused.code), "unavailable")
    reference = refused.reference or new_reference()
    reason = refused.reason
    if not reason and refused.status == 429:
        code, reason = "full", "Many people start servers at this moment. Try again in a minute."
    if not reason:
        reason = next(
            (
                one.reason
                for one in portal.service.sessions_of(visitor.account)
                if one.server_name == name and one.state == "failed" and one.reason
            ),
            "The server could not be started. Your data is safe; try again, and if it repeats, tell your "
            "facility the reference below.",
        )
    log.warning(
        "start refused by the hub [reference %s]",
        reference,
        extra={"status": refused.status, "server": name, "account": visitor.account},
    )
    return Refused(Refusal(code=code, subject="", reason=reason[:500], reference=reference[:40]))
