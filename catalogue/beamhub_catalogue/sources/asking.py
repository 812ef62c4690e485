"""Questions to another catalogue over HTTP: one at a time, at a bounded rate, each within a deadline."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from beamhub_catalogue.sources.catalogue import CatalogueBroken
from beamhub_catalogue.sources.rest_fetch import Deadline, Fetcher, FetchFailed, new_client, read_token

MAX_ANSWER_BYTES = 64_000_000


class Asker:
    """Asks one server; what it answers is JSON or a `CatalogueBroken` in our words."""

    def __init__(
        self, name: str, url: str, *, requests_per_s: float, timeout_s: float, token_file: Path | None = None
    ) -> None:
        self.name, self._url = name, url.rstrip("/")
        self._interval_s, self._timeout_s = 1 / requests_per_s, timeout_s
        self._token_file = token_file
        self._client = new_client(url)
        self._next_at = 0.0
        self._pause = threading.Event()

    def __enter__(self) -> Asker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, params: Mapping[str, str]) -> Any:
        """The JSON at a path.

        Raises
        ------
        CatalogueBroken
        """
        self._wait()
        try:
            with Deadline(self._timeout_s) as deadline:
                fetcher = Fetcher(self._client, deadline, MAX_ANSWER_BYTES, MAX_ANSWER_BYTES, self._token())
                answer = fetcher.get(f"{self._url}/{path}", dict(params))
            return json.loads(answer.body or b"")
        except FetchFailed as failed:
            raise CatalogueBroken(self.name, f"it {failed.reason}") from None
        except (ValueError, RecursionError):
            raise CatalogueBroken(self.name, "its answer is no JSON") from None

    def post(self, path: str, *, form: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """The JSON that a small form or body gets as its answer.

        Raises
        ------
        CatalogueBroken
        """
        self._wait()
        try:
            token = self._token()
            headers = {"Accept": "application/json"}
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            with Deadline(self._timeout_s) as deadline:
                response = self._client.post(
                    f"{self._url}/{path}",
                    data=dict(form) if form is not None else None,
                    json=body if form is None else None,
                    headers=headers,
                    timeout=deadline.remaining_s,
                    extensions={"trace": deadline.trace},
                )
        except FetchFailed as failed:
            raise CatalogueBroken(self.name, f"it {failed.reason}") from None
        except httpx.HTTPError as error:
            raise CatalogueBroken(self.name, f"it cannot be asked ({type(error).__name__})") from None
        if response.status_code not in (200, 201):
            raise CatalogueBroken(self.name, f"it answers a POST with status {response.status_code}")
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise CatalogueBroken(self.name, "its answer is no JSON") from None

    def _token(self) -> str | None:
        return None if self._token_file is None else read_token(self._token_file)

    def _wait(self) -> None:
        left = self._next_at - time.monotonic()
        if left > 0:
            self._pause.wait(left)
        self._next_at = time.monotonic() + self._interval_s


def expect_list(name: str, answer: Any) -> list[Any]:
    """An answer that must be a list.

    Raises
    ------
    CatalogueBroken
    """
    if not isinstance(answer, list):
        raise CatalogueBroken(name, "its answer is no list of records")
    return answer


def open_asker(config: Any, token_file: Path | None = None) -> Asker:
    """The asker of a source's configuration."""
    return Asker(
        config.name,
        config.url,
        requests_per_s=config.requests_per_s,
        timeout_s=config.timeout_s,
        token_file=token_file,
    )
