"""One Docker host: its own client, threads and time limits, so that a hung one blocks only itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException

from beamhub_core.errors import Unavailable

N_THREADS = 4


class DockerHost:
    """Calls of the engine's API in threads of this host's own."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url, self.timeout_s = url, timeout_s
        self._threads = ThreadPoolExecutor(N_THREADS, thread_name_prefix="docker-host")
        self._client: Any = None

    async def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """The result of a method of docker's `APIClient`.

        Raises
        ------
        APIError
            What the engine itself refused.
        Unavailable
            When the engine does not answer in time. The thread may stay busy until the call's own time-out.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, lambda: self._call(method, *arguments, **named))
        try:
            return await asyncio.wait_for(future, self.timeout_s)
        except APIError:
            raise
        except TimeoutError as error:
            raise Unavailable("container", "the host does not answer") from error
        except (DockerException, requests.RequestException) as error:
            raise Unavailable("container", type(error).__name__) from error

    async def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Containers with all of some labels, running or not, as `GET /containers/json` has them."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        found: list[dict[str, Any]] = await self.call("containers", all=True, filters={"label": wanted})
        return found

    def close(self) -> None:
        """Give connections and threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        if self._client is None:
            # In this thread: it asks the engine for its version.
            self._client = docker.APIClient(base_url=self.url, version="auto", timeout=self.timeout_s)
        return getattr(self._client, method)(*arguments, **named)
