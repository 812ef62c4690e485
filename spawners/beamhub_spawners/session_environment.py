"""The environment of a session: what it needs, by name, and nothing of the hub's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

# What a single-user server reads of JupyterHub (jupyterhub.spawner.Spawner.get_env, 6.1). By name: the
# hub's own environment holds JUPYTERHUB_CRYPT_KEY and may hold more secrets that begin so.
OF_THE_HUB = frozenset(
    {
        "JPY_API_TOKEN",
        "JUPYTERHUB_ACTIVITY_URL",
        "JUPYTERHUB_ADMIN_ACCESS",
        "JUPYTERHUB_API_TOKEN",
        "JUPYTERHUB_API_URL",
        "JUPYTERHUB_BASE_URL",
        "JUPYTERHUB_CLIENT_ID",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED",
        "JUPYTERHUB_COOKIE_OPTIONS",
        "JUPYTERHUB_DEBUG",
        "JUPYTERHUB_DEFAULT_URL",
        "JUPYTERHUB_DISABLE_USER_CONFIG",
        "JUPYTERHUB_HOST",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES",
        "JUPYTERHUB_OAUTH_CALLBACK_URL",
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES",
        "JUPYTERHUB_OAUTH_SCOPES",
        "JUPYTERHUB_PUBLIC_HUB_URL",
        "JUPYTERHUB_PUBLIC_URL",
        "JUPYTERHUB_SERVER_NAME",
        "JUPYTERHUB_SERVICE_PREFIX",
        "JUPYTERHUB_SERVICE_URL",
        "JUPYTERHUB_USER",
        "LANG",
        "LC_ALL",
        "TZ",
    }
)


def session_environment(
    of_the_spawner: Mapping[str, str | None],
    *,
    of_the_facility: frozenset[str],
    of_the_plan: Mapping[str, str],
    of_the_backend: Mapping[str, str],
) -> dict[str, str]:
    """The environment variables of one server. Pure.

    Parameters
    ----------
    of_the_spawner:
        What `Spawner.get_env` gave; cut down to the allow-list.
    of_the_facility:
        Names that the facility's own hub configuration sets on purpose (`Spawner.environment`).
    of_the_plan, of_the_backend:
        Win over the former, the backend's last.
    """
    kept = {
        name: value
        for name, value in of_the_spawner.items()
        if value is not None and (name in OF_THE_HUB or name in of_the_facility)
    }
    return {"LANG": "C.UTF-8", **kept, **of_the_plan, **of_the_backend}


def hub_addresses(hub_api_url: str | None, escaped_account: str) -> dict[str, str]:
    """The variables by which a server reaches the hub, where that is not the hub's own idea of itself."""
    if hub_api_url is None:
        return {}
    url = hub_api_url.rstrip("/")
    return {
        "JUPYTERHUB_API_URL": url,
        "JUPYTERHUB_ACTIVITY_URL": f"{url}/users/{escaped_account}/activity",
    }


def token_digest(token: str) -> str:
    """SHA-256 of a hub token, hexadecimal: what may be stored of it."""
    return hashlib.sha256(token.encode()).hexdigest()
