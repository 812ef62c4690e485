"""The only code that sets JupyterHub's traitlets: from `FacilityConfig` to `c`."""

from __future__ import annotations

import functools
import re
from typing import Any
from urllib.parse import urlsplit

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.identity import FacilityRole
from beamhub_hub.authenticator import BeamhubAuthenticator
from beamhub_hub.pages import ErrorNotes
from beamhub_hub.role_assignments import group_of
from beamhub_hub.secret_files import read_keys, read_secret
from beamhub_hub.static_files import STATIC_PATH, TEMPLATES_FOLDER
from beamhub_hub.timed_proxy import TimedProxy
from beamhub_spawners.platform import Platform, clock_of
from beamhub_spawners.web_client import WebClient
from beamhub_spawners.wiring_hook import configure_spawner

WEB = "web"
WEB_PREFIX = f"/services/{WEB}"
ACCESS_WEB = f"access:services!service={WEB}"
PORTAL_SCOPES = (ACCESS_WEB, "read:users!user", "servers!user", "access:servers!user")
"""What the portal may do with a person's own token: see, start, stop and open that person's servers."""
ROLE_SCOPES: dict[FacilityRole, str] = {
    "admin": "admin-ui list:users read:users read:groups read:hub read:metrics "
    "read:servers start:servers delete:servers",
    "support": "list:users read:users:name read:users:activity read:servers",
}
"""The hub's rights of facility roles; the other roles' rights are web's matter. Nobody may open another
person's server or make accounts."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer of the hub that is no static file; the hub itself forbids framing."""
DAY_S = 24 * 3600
MAX_KNOWN_SERVERS = 1000
ROUTES_LOOK_S = 30


def configure(c: Any, config: FacilityConfig) -> None:
    """Set every trait that the platform needs.

    Parameters
    ----------
    c:
        A traitlets `Config`, changed in place.
    config:
        The facility's configuration.

    Raises
    ------
    ConfigInvalid
        If a secret is missing or unusable: without it nothing starts.
    """
    web = WebClient(config.web.internal_url, read_secret(config.hub.web_client_token_file))
    platform = Platform(config=config, clock=clock_of(config), web=web)
    configure_spawner(c, config, lambda: platform.web)
    _configure_hub(c, config)
    _configure_network(c, config)
    _configure_login(c, config, platform)
    _configure_rights(c, config)
    _configure_pages(c, config)
    _configure_servers(c, config)


def public_path(config: FacilityConfig) -> str:
    """The path of the platform below its host, with a slash at both ends."""
    return urlsplit(config.hub.public_url).path.rstrip("/") + "/"


def portal_url(config: FacilityConfig) -> str:
    """The portal's path as browsers see it."""
    return public_path(config).rstrip("/") + config.web.base_path + "/"


def _configure_hub(c: Any, config: FacilityConfig) -> None:
    hub = config.hub
    c.JupyterHub.db_url = re.sub("^postgresql://", "postgresql+psycopg://", hub.database_url)
    options: dict[str, Any] = {"hide_parameters": True}  # a database's error would quote rows in the log
    if hub.database_password_file is not None:  # not in the URL, which JupyterHub writes to its log
        options["connect_args"] = {"password": read_secret(hub.database_password_file)}
    c.JupyterHub.db_kwargs = options
    c.JupyterHub.cookie_secret = read_keys(hub.cookie_secret_file)[0]
    c.CryptKeeper.keys = read_keys(hub.crypt_key_file)
    c.JupyterHub.cookie_max_age_days = 1
    c.JupyterHub.oauth_token_expires_in = DAY_S
    c.JupyterHub.token_expires_in_max_seconds = 30 * DAY_S
    c.JupyterHub.oauth_require_pkce = True
    c.JupyterHub.trust_user_provided_tokens = False
    c.JupyterHub.authenticate_prometheus = True
    c.JupyterHub.admin_access = False
    # A hub that comes back finds its servers and routes as they are.
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False


def _configure_network(c: Any, config: FacilityConfig) -> None:
    hub = config.hub
    public = hub.public_url.rstrip("/") + "/"
    c.JupyterHub.bind_url = public
    c.JupyterHub.public_url = public
    c.JupyterHub.hub_bind_url = f"http://{hub.listen_host}:{hub.listen_port}"
    if hub.connect_url is not None:
        c.JupyterHub.hub_connect_url = hub.connect_url
    c.JupyterHub.default_url = portal_url(config)
    # The proxy is a process of its own: a hub that restarts must not cut every websocket.
    c.JupyterHub.proxy_class = TimedProxy
    c.ConfigurableHTTPProxy.should_start = False
    # One that was started anew has lost its routes, which this look gives back.
    c.JupyterHub.last_activity_interval = ROUTES_LOOK_S
    c.ConfigurableHTTPProxy.api_url = hub.proxy.api_url
    c.ConfigurableHTTPProxy.auth_token = read_secret(hub.proxy.token_file)
    is_https = urlsplit(public).scheme == "https"
    cookies = {"samesite": "Lax", "secure": is_https}
    c.JupyterHub.tornado_settings = {
        "headers": dict(HEADERS),
        "cookie_options": cookies,
        "xsrf_cookie_kwargs": dict(cookies),
    }
    if hub.subdomain_host is not None:
        parts = urlsplit(public)
        c.JupyterHub.subdomain_host = f"{parts.scheme}://{parts.netloc}"
        # Such cookies exist with TLS only, and stand on '/', which sessions must not share.
        c.JupyterHub.cookie_host_prefix_enabled = is_https


def _configure_login(c: Any, config: FacilityConfig, platform: Platform) -> None:
    c.JupyterHub.authenticator_class = BeamhubAuthenticator
    # A function, because traitlets copies a value deeply, and a web client has no copy.
    c.BeamhubAuthenticator.platform = lambda: platform
    c.BeamhubAuthenticator.enable_auth_state = True
    c.BeamhubAuthenticator.manage_groups = True
    c.BeamhubAuthenticator.refresh_pre_spawn = True
    # Otherwise a token's request goes on as the person whose refresh failed (JupyterHub 6.1).
    c.BeamhubAuthenticator.auth_refresh_strict = True
    # 0 would switch off the refresh before a start, too.
    c.BeamhubAuthenticator.auth_refresh_age = max(1, int(config.login.refresh_s))


def _configure_rights(c: Any, config: FacilityConfig) -> None:
    web_service = {
        "name": WEB,
        "api_token": read_secret(config.web.hub_service_token_file),
        "oauth_redirect_uri": f"{config.hub.public_url.rstrip('/')}{config.web.base_path}/oauth_callback",
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": list(PORTAL_SCOPES),
        "display": False,
    }
    if config.web.base_path == WEB_PREFIX:  # else a facility routes its portal itself
        target = config.web.internal_url
        if config.hub.subdomain_host is None:
            web_service["url"] = target
        else:
            # A service with a URL gets a host name of its own; the portal stays where its pages' links lead.
            here = urlsplit(config.hub.public_url).hostname
            c.ConfigurableHTTPProxy.extra_routes = {f"{here}{portal_url(config)}": target}
    c.JupyterHub.services = [web_service]
    # A server's token is cut to its owner's rights, so the owner needs what the session shall have.
    c.JupyterHub.extra_user_scopes = {ACCESS_WEB}
    c.JupyterHub.load_roles = [
        {"name": "server", "scopes": ["users:activity!user", "access:servers!server", ACCESS_WEB]},
        {
            "name": "beamhub-web",
            "scopes": [
                "read:users:name",
                "read:users:activity",
                "read:servers",
                "start:servers",  # turns of the queue
                "delete:servers",
            ],
            "services": [WEB],
        },
        *(_facility_role(role, scopes) for role, scopes in ROLE_SCOPES.items()),
    ]


def _facility_role(role: FacilityRole, scopes: str) -> dict[str, Any]:
    return {"name": group_of(role), "scopes": scopes.split(), "groups": [group_of(role)]}


def _configure_pages(c: Any, config: FacilityConfig) -> None:
    c.JupyterHub.template_paths = [str(TEMPLATES_FOLDER)]
    c.JupyterHub.template_vars = {
        "facility_name": config.name,
        "portal_url": portal_url(config),
        "beamhub_static": f"{public_path(config)}hub{STATIC_PATH}",
        "for_one_person": any(place.backend == "local" for place in config.sessions.places),
        "logo_url": portal_url(config),
        "support_url": config.hub.support_url,
        "support_email": config.hub.support_email,
        "error_notes": ErrorNotes(),
        "can_link": config.login.can_link_identities and len(config.login.providers) > 1,
    }


def _configure_servers(c: Any, config: FacilityConfig) -> None:
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.named_server_limit_per_user = functools.partial(
        known_server_limit, n_active=most_servers(config.sessions)
    )
    c.JupyterHub.redirect_to_server = False


def most_servers(sessions: SessionsConfig) -> int:
    """The most sessions that anybody may have at once; what each may is counted with the plan."""
    said = [one.max_servers for one in sessions.limits.people if one.max_servers is not None]
    return max([sessions.max_servers_per_person, *said])


def known_server_limit(handler: Any, *, n_active: int) -> int:
    """How many named servers the asking account may have on record.

    The hub counts stopped ones, too; they do not use up what may run, only the record's own bound.
    """
    user = handler.current_user
    if user is None or not hasattr(user, "all_spawners"):
        return MAX_KNOWN_SERVERS  # web starts a turn of the queue: what may run is counted with the plan
    stopped = sum(1 for spawner in user.all_spawners(include_default=False) if not spawner.active)
    return min(n_active + stopped, MAX_KNOWN_SERVERS)
