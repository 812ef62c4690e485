"""What the hub asks of a place's storage keeper: its pools, a person's home, the folders of a plan."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from beamhub_core.config.docker_place import TlsPairConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.pool_health import PoolState
from beamhub_core.word import Word
from beamhub_spawners.host_folders import FOLDERS_S, OF_A_FOLDER
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.keeper_desk import StorageInventory
from beamhub_spawners.refusal import StartFailed

SERVICE = "storage keeper"
MAX_WORDS = 300
Said = TypeVar("Said", bound=Word)


async def ask_pools(place: KubernetesPlaceConfig) -> dict[str, PoolState]:
    """How the place's pools are, where they are mounted.

    Raises
    ------
    Unavailable
        If the keeper does not answer in time, refuses, or says something else.
    """
    return _read(StorageInventory, await _asked(place, "GET", "inventory", place.timeout_s)).pools


async def ask_home(place: KubernetesPlaceConfig, account: str) -> HomeOnHost:
    """What the keeper says of an account's home.

    Raises
    ------
    Unavailable
        If the keeper does not answer in time, refuses, or says something else.
    """
    return _read(HomeOnHost, await _asked(place, "GET", f"home/{account}", place.timeout_s))


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
    answer = await _asked(place, "POST", f"folders/{plan_id}", FOLDERS_S + place.timeout_s)
    if not answer.is_success:
        raise StartFailed("The session", _words(answer))


async def _asked(place: KubernetesPlaceConfig, method: str, path: str, limit_s: float) -> httpx.Response:
    url = f"{(place.keeper_url or '').rstrip('/')}/beamhub/{path}"
    try:
        verify = await asyncio.to_thread(_context, place.keeper_tls)
        async with (
            asyncio.timeout(limit_s),
            httpx.AsyncClient(verify=verify, timeout=limit_s, trust_env=False) as client,
        ):
            answer = await client.request(method, url)
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        raise Unavailable(SERVICE, type(error).__name__) from error
    if answer.status_code >= 500:
        raise Unavailable(SERVICE, f"HTTP {answer.status_code}")
    return answer


def _read(kind: type[Said], answer: httpx.Response) -> Said:
    if not answer.is_success:
        raise Unavailable(SERVICE, f"HTTP {answer.status_code}")
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise Unavailable(SERVICE, type(error).__name__) from error


@cache
def _context(tls: TlsPairConfig | None) -> ssl.SSLContext | bool:
    """One context for each pair of files; a renewed pair is read when the hub starts again."""
    if tls is None:
        return True
    context = ssl.create_default_context(cafile=str(tls.ca_file))
    context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


def _words(answer: httpx.Response) -> str:
    """What the keeper says to the person of a folder; of all else it speaks to the operator."""
    try:
        said: Any = answer.json()
    except ValueError:
        said = None
    message = str(said.get("message", "")) if isinstance(said, dict) else ""
    _, is_folder, words = message.partition(OF_A_FOLDER)
    return words.strip()[:MAX_WORDS] if is_folder else "its storage keeper did not admit it"
