"""Logging out, as the person at the browser asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from jupyterhub.handlers import LogoutHandler

from beamhub_hub.denial import ProviderUnavailable

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator


class ProviderLogoutHandler(LogoutHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """End the session here, with every token that came of it, then at the provider."""

    async def get(self) -> Any:
        """Read the login's record before the session is gone: it tells the provider whose session ends."""
        user = self.current_user
        authenticator = cast("BeamhubAuthenticator", self.authenticator)
        self._provider_url: str | None = None
        if user is not None:
            try:
                self._provider_url = await authenticator.logout_url(user)
            except ProviderUnavailable as error:
                self.log.warning("provider not told of a logout: reason=%s", error.reason)
        return await super().get()

    async def render_logout_page(self) -> None:
        """Go on to the provider, or say that the session here has ended."""
        if self._provider_url is not None:
            self.redirect(self._provider_url)
            return
        self.finish(await self.render_template("logout.html"))
