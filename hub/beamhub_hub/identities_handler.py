"""The page on which people see, add and remove the identities that sign in as their account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from jupyterhub.handlers import BaseHandler
from tornado.web import authenticated

from beamhub_core.audit_notice import new_reference
from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_hub.pages import PageError, web_down_page

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator


class IdentitiesHandler(BaseHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """`/identities`: shows them; a form removes one."""

    @property
    def _authenticator(self) -> BeamhubAuthenticator:
        return cast("BeamhubAuthenticator", self.authenticator)

    @authenticated
    async def get(self) -> None:
        """The account's own identity, those that were linked to it, and where another can be added."""
        user: Any = self.current_user
        answer = await self._asked(self._authenticator.web.identity(user.name))
        titles = {kind.issuer: kind.title for kind in self._authenticator.kinds.values()}
        own = answer.identity
        shown = [{"title": titles.get(own.issuer, own.issuer), "account": None}] if own else []
        shown += [
            {"title": titles.get(one.issuer, one.issuer), "account": one.account, "since": one.linked_at}
            for one in answer.linked
        ]
        ways = [kind for kind in self._authenticator.kinds.values() if not kind.starts_by_post]
        can_link = self._authenticator.facility.login.can_link_identities
        html = await self.render_template(
            "identities.html", identities=shown, ways=ways if can_link else [], hub_url=self.hub.base_url
        )
        self.finish(html)

    @authenticated
    async def post(self) -> None:
        """Part with one identity of this account; the hub checked the form's token."""
        user: Any = self.current_user
        account = self.get_body_argument("account", "")
        answer = await self._asked(self._authenticator.web.identity(user.name))
        if account not in {one.account for one in answer.linked}:
            raise PageError(404, "No such identity", "This identity does not sign in as your account.")
        await self._asked(self._authenticator.links.unlink(user, account))
        self.redirect(f"{self.hub.base_url}identities")

    async def _asked(self, answer: Any) -> Any:
        try:
            return await answer
        except (Unavailable, Refused) as error:
            reference = new_reference()
            self.log.warning("identities not known: reference=%s reason=%s", reference, error)
            raise web_down_page(reference) from None
