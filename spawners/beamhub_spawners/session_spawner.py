"""What every spawner does alike: rights, placement, plan, then the backend, then the truth to web.

A backend adds five methods (`launch`, `is_running`, `find_url`, `exit_reason`, `end`), all of which find
their process, container or pod by labels or files of their own, never by what the hub remembers: a hub
that was killed inside `start` remembers nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

from pydantic import ValidationError
from sqlalchemy import inspect
from tornado.web import HTTPError
from traitlets import HasTraits, default

from beamhub_core.config.storage import PlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.identity import Principal
from beamhub_core.rights import Refused
from beamhub_core.session import SessionPlan, SessionRequest, SessionState, SessionUpdate
from beamhub_core.trace import HEADER, new_trace_id, read_trace_id
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.inventory import HostStorage
from beamhub_spawners.platform import Platform
from beamhub_spawners.refusal import StartFailed, StartRefused, refuse
from beamhub_spawners.route_notice import tell_route
from beamhub_spawners.server_answer import await_answer
from beamhub_spawners.session_environment import token_digest
from beamhub_spawners.session_options import OptionsRefused, read_form, read_options
from beamhub_spawners.session_planning import Queued, Start, plan_and_store
from beamhub_spawners.start_metrics import FAILURES, REFUSALS, PhaseClock
from beamhub_spawners.start_progress import StartProgress

POLL_TIMEOUT_S = 10.0
RESTORE_HTTP_TIMEOUT_S = 300

STATUS_OF = {
    "not_found": 404,
    "no_place": 503,
    "full": 503,
    "unavailable": 503,
    "bad_request": 400,
}


def apply_user_options(spawner: Any, user_options: Any) -> None:
    """Check the shape of a server's options; a refused set does not stay for the next start.

    Does no I/O: the hub turns every error here but an HTTPError into "Invalid user options", which
    would blame the person for a web service that is down.
    """
    try:
        spawner.request = read_options(user_options)
    except OptionsRefused as refused:
        spawner.forget_options()
        raise HTTPError(400, "%s", str(refused), reason="Invalid session options") from None


class PlanSpawnerMixin(HasTraits):
    """A spawner whose servers are made from session plans; mix in before a Spawner class."""

    platform: ClassVar[Platform]
    request: SessionRequest | None = None
    principal: Principal | None = None
    plan: SessionPlan | None = None
    phases: StartProgress
    stop_reason: str | None = None
    """Why the platform itself stops this server, in words for its person."""

    # What JupyterHub's Spawner brings; untyped there.
    user: Any
    name: str
    server: Any
    log: Any
    api_token: str
    orm_spawner: Any
    user_options: Any
    http_timeout: int
    handler: Any
    _routed: str | None = None

    async def ask_host(self, place: PlaceConfig) -> HostStorage | None:
        """What the host of a place says of itself; None where this host is to be looked at."""
        return None

    async def ask_home(self, place_name: str, account: str) -> HomeOnHost | None:
        """What the host of a place says of an account's home; None where this host is to be looked at."""
        return None

    # -- what a backend adds -------------------------------------------------------------------

    async def launch(self, plan: SessionPlan) -> None:
        """Make the process, container or pod of a plan; raises `StartFailed` or `Refused`."""
        raise NotImplementedError

    async def is_running(self) -> bool | None:
        """Whether this server's backend object runs; None when nobody can tell now."""
        raise NotImplementedError

    async def find_url(self) -> str | None:
        """Where the running server listens, `http://host:port`; None when it is not known."""
        raise NotImplementedError

    async def find_plan_id(self) -> str | None:
        """The plan that the backend object of this server was made from; None without one."""
        raise NotImplementedError

    async def backend_id(self) -> str | None:
        """The backend object's own name, for people and the sweeper."""
        raise NotImplementedError

    async def exit_reason(self) -> str:
        """Why the server that was launched last ended, in plain words, without paths or tokens."""
        raise NotImplementedError

    async def end(self, *, now: bool) -> None:
        """End this server's backend object, whatever plan it was made from; no error if there is none."""
        raise NotImplementedError

    # -- traits ----------------------------------------------------------------------------------

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Callable[[Any, Any], None]:
        return apply_user_options

    @default("options_from_form")
    def _default_options_from_form(self) -> Callable[[dict[str, list[str]]], dict[str, Any]]:
        return read_form

    # -- before the start -----------------------------------------------------------------------------

    def forget_options(self) -> None:
        """Drop the options that the hub stored before anybody looked at them."""
        self.user_options = {}
        if self.orm_spawner is not None:
            self.orm_spawner.user_options = {}
            session = inspect(self.orm_spawner).session
            if session is not None:
                session.commit()

    def __init__(self, *args: Any, **traits: Any) -> None:
        super().__init__(*args, **traits)
        self.phases = StartProgress()

    async def run_auth_state_hook(self, auth_state: dict[str, Any] | None) -> None:
        """Take the Principal from the account's auth state, then run a facility's own hook."""
        self.principal = principal_in(auth_state)
        await super().run_auth_state_hook(auth_state)  # type: ignore[misc]  # the Spawner behind the mixin

    # -- start -----------------------------------------------------------------------------------------

    async def start(self) -> str:
        """Start the server and return its URL once it answers HTTP.

        Raises
        ------
        StartRefused
            For a refusal or an unreachable web service: not a fault, never counted as one.
        StartFailed
            When the backend failed.
        """
        if self.phases.is_done:  # whoever watches already waits for these
            self.phases = StartProgress()
        try:
            return await self._start_session()
        except Refused as refused:
            refusal = refused.refusal
            self.log.warning(
                "session refused: %s",
                refusal.code,
                extra={"reference": refusal.reference, "account": self.user.name},
            )
            raise await self._spawn_exception(
                str(refused),
                refusal.code,
                required_acr=refusal.required_acr,
                is_queued=isinstance(refused, Queued),
            ) from refused
        except Unavailable as unavailable:
            raise await self._spawn_exception(str(unavailable), "unavailable") from unavailable
        except StartFailed as failed:
            FAILURES.inc()
            await self._fail(failed.reason)
            raise
        finally:
            self.phases.end()

    async def _spawn_exception(
        self, message: str, reason: str, *, required_acr: tuple[str, ...] = (), is_queued: bool = False
    ) -> Exception:
        REFUSALS.labels(reason).inc()
        await self._fail(message)
        status = STATUS_OF.get(reason, 403)
        refused = StartRefused(message, reason=reason, status_code=status, required_acr=required_acr)
        refused.is_queued = is_queued
        return refused

    async def _start_session(self) -> str:
        web, config, clock = self.platform.web, self.platform.config, PhaseClock()
        self.plan = None
        await self.end_previous()
        with clock.phase("plan"):
            start, say = self._start(), self.phases.say
            plan = await plan_and_store(self.platform, start, say, self.ask_host, self.ask_home)
        self.plan = plan
        self.phases.say(35, f"Placed on {plan.place.name}: {plan.explain.because}")
        await web.update_session(plan.id, SessionUpdate(state="starting"))
        self.phases.say(45, "Making the session's folders and starting its server")
        with clock.phase("create"):
            await self.launch(plan)
        self.phases.say(65, "The server is booting")
        with clock.phase("boot"):
            url = await self._await_http(config.sessions.start_timeout_s)
        await web.update_session(
            plan.id,
            SessionUpdate(
                state="running",
                token_digest=token_digest(self.api_token),
                backend_id=await self.backend_id(),
                url=url,
                phases_s=clock.done(),
            ),
        )
        self.phases.say(95, "The server answers")
        facts = {"plan_id": plan.id, "place": plan.place.name, "profile": plan.profile}
        self.log.info("session started: plan=%s trace=%s", plan.id, plan.trace_id, extra=facts)
        return url

    def route_is_set(self, seconds: float) -> None:
        """The proxy leads to the server; told once for each start, not when a lost route is set again."""
        plan = self.plan
        if plan is None or self._routed == plan.id:
            return
        self._routed = plan.id
        tell_route(self.platform.web, plan, seconds, self.log)

    def _start(self) -> Start:
        request = self.request if self.request is not None else read_options(self.user_options)
        name = str(getattr(self.orm_spawner, "display_name", None) or "")
        return Start(self._checked_principal(), self.name, name, request, self._trace_id())

    def _trace_id(self) -> str:
        """The trace of whoever asked for this start, where the request names one; else a new one."""
        asked = getattr(getattr(self.handler, "request", None), "headers", None)
        return read_trace_id(asked.get(HEADER) if asked is not None else None) or new_trace_id()

    def _checked_principal(self) -> Principal:
        principal = self.principal
        if principal is None or principal.account != self.user.name:
            raise refuse(
                "not_a_member",
                "login",
                "Your identity is not known any more. Log out and in again, then start the session.",
            )
        return principal

    async def end_previous(self) -> None:
        """End what an earlier start of this server left behind, so that no two run under one name."""
        plan_id = await self.find_plan_id()
        if plan_id is None:
            return
        if await self.is_running() is not False:
            self.log.warning("ending a forgotten server of the same name", extra={"plan_id": plan_id})
        await self.end(now=True)
        await self._tell(plan_id, "ended", "replaced by a new start")

    async def _await_http(self, timeout_s: float) -> str:
        """The server's URL, as soon as it answers; raises `StartFailed` when it ends first."""
        prefix = self.server.base_url if self.server is not None else "/"
        return await await_answer(self, f"Server {self.name or 'default'}", prefix, timeout_s)

    async def _fail(self, reason: str) -> None:
        if self.plan is None:
            return
        await self._quietly_end(now=True)
        await self._tell(self.plan.id, "failed", reason)

    # -- while it runs ------------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while the server runs or nobody can tell, 0 once it is known to be gone. Never raises."""
        try:
            running = await asyncio.wait_for(self.is_running(), POLL_TIMEOUT_S)
        except Exception:
            # The outermost layer: an error here would make the hub forget a server that may run.
            self.log.exception("the state of server %r is not known now", self.name)
            return None
        return 0 if running is False else None

    async def get_url(self) -> str:
        """The server's URL from the backend, else what the hub remembers. Never raises for a backend."""
        try:
            found = await asyncio.wait_for(self.find_url(), POLL_TIMEOUT_S)
        except Exception:
            # At restart the hub ends itself when this raises.
            self.log.exception("the address of server %r is not known now", self.name)
            found = None
        if found is None:
            return str(self.server.url)
        return found + str(self.server.base_url)

    def get_state(self) -> dict[str, Any]:
        """What the hub stores; only a hint, since a killed hub never stored it."""
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        if self.plan is not None:
            state["plan_id"] = self.plan.id
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore after a restart of the hub: a slow server gets minutes, not 30 s, to answer."""
        super().load_state(state)  # type: ignore[misc]
        self.http_timeout = max(self.http_timeout, RESTORE_HTTP_TIMEOUT_S)

    # -- the end ------------------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """End the server: asked first, killed when it does not listen. Never raises for a backend.

        With an unreachable backend the row says `stopping` and the sweeper finishes: if this raised, the
        hub would forget the server.
        """
        plan_id = await self._known_plan_id()
        if plan_id is not None:
            await self._tell(plan_id, "stopping", None)
        await self._quietly_end(now=now)
        if plan_id is not None and await self.poll() is not None:
            await self._tell(plan_id, "ended", self.stop_reason or "stopped")
        self.stop_reason = None

    async def run_post_stop_hook(self) -> None:
        """Close the plan also when the server ended by itself, then run a facility's own hook."""
        plan_id = await self._known_plan_id()
        if plan_id is not None and await self.poll() is not None:
            await self._tell(plan_id, "ended", None)
        result = super().run_post_stop_hook()  # type: ignore[misc]
        if asyncio.iscoroutine(result) or isinstance(result, asyncio.Future):
            await result

    async def _known_plan_id(self) -> str | None:
        if self.plan is not None:
            return self.plan.id
        try:
            return await asyncio.wait_for(self.find_plan_id(), POLL_TIMEOUT_S)
        except Exception:
            self.log.exception("the plan of server %r is not known now", self.name)
            return None

    async def _quietly_end(self, *, now: bool) -> None:
        try:
            await self.end(now=now)
        except Exception:
            self.log.exception("the server %r could not be ended; the sweeper will", self.name)

    async def _tell(self, plan_id: str, state: SessionState, reason: str | None) -> None:
        """Tell web a state; without web the sweeper tells it later."""
        try:
            await self.platform.web.update_session(plan_id, SessionUpdate(state=state, reason=reason))
        except (Unavailable, Refused) as error:
            self.log.warning("web was not told that session %s is %s: %s", plan_id, state, error)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """The phases of the start in plain words, each as it begins."""
        async for phase in self.phases.events():
            yield phase


def principal_in(auth_state: dict[str, Any] | None) -> Principal | None:
    """The Principal that the hub's authenticator left under `principal`; None when there is none."""
    try:
        return Principal.model_validate((auth_state or {})["principal"])
    except (KeyError, TypeError, ValidationError):
        return None
