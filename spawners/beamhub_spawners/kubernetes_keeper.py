"""What the hub asks of a place's storage keeper: the folders of a plan, before its pod is made."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.refusal import StartFailed

FOLDERS_S = 60.0
"""More than the facility's own command for quotas may take."""
MAX_WORDS = 300


async def ensure_folders(place: KubernetesPlaceConfig, plan_id: str) -> None:
    """Have the folders of a stored plan made and looked at; nothing in a place without a keeper.

    The keeper reads the plan from web itself: what it makes is what is stored, not what is asked.

    Raises
    ------
    StartFailed
        With the keeper's words for the person, when a folder cannot be used.
    Unavailable
        Without an answer.
    """
    if place.keeper_url is None:
        return
    url = f"{place.keeper_url.rstrip('/')}/beamhub/folders/{plan_id}"
    try:
        verify = await asyncio.to_thread(_tls, place)
        async with httpx.AsyncClient(verify=verify, timeout=FOLDERS_S, trust_env=False) as client:
            answer = await client.post(url)
    except (httpx.HTTPError, OSError) as error:
        raise Unavailable("storage keeper", type(error).__name__) from error
    if answer.status_code >= 500:
        raise Unavailable("storage keeper", f"HTTP {answer.status_code}")
    if not answer.is_success:
        raise StartFailed("The session", _words(answer))


def _tls(place: KubernetesPlaceConfig) -> ssl.SSLContext | bool:
    if place.keeper_tls is None:
        return True
    context = ssl.create_default_context(cafile=str(place.keeper_tls.ca_file))
    context.load_cert_chain(place.keeper_tls.cert_file, place.keeper_tls.key_file)
    return context


def _words(answer: httpx.Response) -> str:
    """What the keeper says to the person of a folder; of all else it speaks to the operator."""
    try:
        said = answer.json()
        words = str(said["message"]) if isinstance(said, dict) and "message" in said else ""
    except ValueError:
        words = ""
    return words[:MAX_WORDS] or "its storage keeper did not admit it"
