"""One Docker host: its own client, threads and time limits, so that a hung one blocks only itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.word import canonical_json
from beamhub_spawners.host_folders import FOLDERS_S, N_FOLDER_THREADS

N_THREADS = 8
MAX_WAITING = 64
OLDEST_API = "1.41"  # Docker 20.10
NO_ANSWER = "the host does not answer"


class EngineClient(docker.APIClient):  # type: ignore[misc]  # docker is untyped
    """docker's client, with the two calls that it does not offer as the engine has them."""

    def create_network_of(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a network from the body of `POST /networks/create`."""
        made: dict[str, Any] = self._result(self._post_json(self._url("/networks/create"), data=body), True)
        return made

    def host_inventory(self) -> dict[str, Any]:
        """What the host's agent says of it; an engine without one says 404."""
        url = self._url("/beamhub/inventory", versioned_api=False)
        said: dict[str, Any] = self._result(self._get(url), True)
        return said

    def home_of(self, account: str) -> dict[str, Any]:
        """What the host's agent says of an account's home."""
        url = self._url("/beamhub/home/{0}", account, versioned_api=False)
        said: dict[str, Any] = self._result(self._get(url), True)
        return said

    def make_folders(self, plan_id: str) -> None:
        """Have the host's agent make a plan's folders, which takes as long as their storage does."""
        url = self._url("/beamhub/folders/{0}", plan_id, versioned_api=False)
        self._raise_for_status(self._post(url, timeout=FOLDERS_S + self.timeout))


class DockerHost:
    """Calls of the engine's API in threads of this host's own.

    A host that did not answer within a limit is left in peace for `pause_s`: calls fail at once, so that
    whoever asks is not held up and no more than `N_THREADS` threads ever hang. `silent_s` says for how long
    nothing has come from it. All methods belong to one event loop.
    """

    def __init__(self, place: DockerPlaceConfig) -> None:
        self.place = place
        self.allocating = asyncio.Lock()
        """Held from looking at which graphics processors are free to taking some."""
        self._threads = ThreadPoolExecutor(N_THREADS, thread_name_prefix="docker-host")
        self._folder_threads = ThreadPoolExecutor(N_FOLDER_THREADS, thread_name_prefix="docker-folders")
        self._client: EngineClient | None = None
        self._swap, self._is_closed = threading.Lock(), False
        self._n_waiting = 0
        self._paused_until = 0.0
        self._silent_since: float | None = None
        self._version: dict[str, Any] | None = None

    @property
    def silent_s(self) -> float:
        """Seconds since the first of the calls that got no answer, with none answered since; else 0."""
        return time.monotonic() - self._silent_since if self._silent_since is not None else 0.0

    async def call(self, method: str, *arguments: Any, limit_s: float | None = None, **named: Any) -> Any:
        """The result of a method of docker's `APIClient`.

        Parameters
        ----------
        limit_s:
            Seconds to wait; the place's `timeout_s` when absent.

        Raises
        ------
        APIError
            What the engine itself refused. Its 500 says that it failed, never that something is gone.
        Unavailable
            When the engine does not answer in time, did not a moment ago, or too many wait for it. A thread
            may stay busy until the call's own time-out.
        """
        if time.monotonic() < self._paused_until:
            raise Unavailable("container", NO_ANSWER)
        if self._n_waiting >= MAX_WAITING:
            raise Unavailable("container", "too many wait for the host")
        self._n_waiting += 1
        try:
            answer = await self._answer(method, arguments, named, limit_s or self.place.timeout_s)
        except APIError:
            self._answered()
            raise
        except (TimeoutError, requests.Timeout) as error:
            self._did_not_answer(self.place.pause_s)
            raise Unavailable("container", NO_ANSWER) from error
        except (DockerException, requests.RequestException, OSError) as error:
            self._did_not_answer(0.0)  # it was refused at once: the next call costs nothing
            raise Unavailable("container", type(error).__name__) from error
        finally:
            self._n_waiting -= 1
        self._answered()
        return answer

    async def make_folders(self, plan_id: str) -> None:
        """Have the host's agent make the folders of a plan, in threads of their own.

        Storage that is slow says nothing of the host: it is not left in peace for it.

        Raises
        ------
        APIError
            What the agent refused.
        Unavailable
            When it does not answer within the folders' own limit.
        """
        limit_s = FOLDERS_S + self.place.timeout_s
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._folder_threads, lambda: self._call("make_folders", plan_id))
        try:
            await asyncio.wait_for(work, limit_s)
        except APIError:
            raise
        except (DockerException, requests.RequestException, OSError) as error:  # time-outs are OSErrors
            raise Unavailable("container", type(error).__name__) from error

    async def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Containers with all of some labels, running or not, as `GET /containers/json` has them."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        found: list[dict[str, Any]] = await self.call(
            "containers", all=True, filters={"label": wanted}, limit_s=self.place.look_timeout_s
        )
        return found

    async def engine_version(self) -> str:
        """The engine's version, e.g. '20.10.24'; asked once."""
        if self._version is None:
            self._version = await self.call("version", limit_s=self.place.look_timeout_s)
        return str(self._version.get("Version", ""))

    def close(self) -> None:
        """Give connections and threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._folder_threads.shutdown(wait=False, cancel_futures=True)
        with self._swap:
            self._is_closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _answer(
        self, method: str, arguments: tuple[Any, ...], named: dict[str, Any], limit_s: float
    ) -> Any:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, lambda: self._call(method, *arguments, **named))
        return await asyncio.wait_for(future, limit_s)

    def _answered(self) -> None:
        self._silent_since, self._paused_until = None, 0.0

    def _did_not_answer(self, pause_s: float) -> None:
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        self._paused_until = now + pause_s
        self._version = None  # it may come back as another

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        return getattr(self._opened(), method)(*arguments, **named)

    def _opened(self) -> EngineClient:
        """The host's one client. Several threads may make one at the same time: the first one stays."""
        if self._client is not None:
            return self._client
        client = open_client(self.place)
        with self._swap:
            if self._client is None and not self._is_closed:
                self._client = client
                return client
        client.close()
        if self._client is None:
            raise DockerException("the host's client is closed")
        return self._client


def open_client(place: DockerPlaceConfig) -> EngineClient:
    """A client of a host's agent or engine, in the version that both know; asks it for its own.

    Raises
    ------
    DockerException
        If a certificate is not there or nobody answers.
    """
    tls: Any = False
    if place.tls is not None:
        pair = (str(place.tls.cert_file), str(place.tls.key_file))
        tls = TLSConfig(client_cert=pair, ca_cert=str(place.tls.ca_file), verify=True)
    client = EngineClient(base_url=place.url, version=OLDEST_API, timeout=place.timeout_s, tls=tls)
    client.trust_env = False  # no proxy of the environment lies between hub and agent
    try:
        client._version = str(client.version(api_version=False)["ApiVersion"])
    except BaseException:
        client.close()
        raise
    return client


def same_host(place: DockerPlaceConfig) -> str:
    """What two places of one host have in common: they share its client, threads and pauses."""
    return canonical_json([place.url, place.tls.model_dump(mode="json") if place.tls else None]).decode()
