"""How strongly and how recently somebody authenticated: how it is asked for, and whether it was done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from beamhub_hub.claim_values import Claims
from beamhub_hub.denial import LoginDenied


def claims_parameter(acr_values: Sequence[str]) -> str | None:
    """The request parameter `claims` that asks for one of these contexts as essential; None for none.

    `acr_values` alone is a wish that a provider may pass over.
    Source: OpenID Connect Core 1.0, 5.5 and 5.5.1.1.
    """
    if not acr_values:
        return None
    demand = {"id_token": {"acr": {"essential": True, "values": list(acr_values)}}}
    return json.dumps(demand, separators=(",", ":"))


def check_strength(
    signed: Claims,
    *,
    acr_values: Sequence[str],
    max_age_s: float | None,
    now: datetime,
    leeway_s: float,
) -> None:
    """Nothing when the authentication is as strong and as recent as the request demanded.

    Parameters
    ----------
    signed:
        Claims of a verified ID token; userinfo never speaks of authentication.
    acr_values:
        Contexts of which one is demanded; compared as whole strings. None of them: any context will do.
    max_age_s:
        Oldest authentication that counts; None: any.
    now:
        When the answer came, aware.
    leeway_s:
        Accepted difference of clocks.

    Raises
    ------
    LoginDenied
        `acr_missing` or `auth_too_old`. A provider that was sent `max_age` must name the time of the
        authentication (OpenID Connect Core 1.0, 3.1.2.1), so an answer without it is denied.
    """
    acr = signed.get("acr")
    if acr_values and not (isinstance(acr, str) and acr in acr_values):
        raise LoginDenied("acr_missing", "claim 'acr'")
    if max_age_s is None:
        return
    authenticated = signed.get("auth_time")
    if isinstance(authenticated, bool) or not isinstance(authenticated, int | float):
        raise LoginDenied("auth_too_old", "claim 'auth_time'")
    earliest, latest = now.timestamp() - max_age_s - leeway_s, now.timestamp() + leeway_s
    if not earliest <= authenticated <= latest:  # also false for NaN
        raise LoginDenied("auth_too_old", "claim 'auth_time'")
