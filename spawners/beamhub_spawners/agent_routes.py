"""Which requests an agent admits, and what it makes of them. Pure.

A request is parsed into a route with its parts, or refused. Nothing of the caller's request line goes on to
the engine: the agent builds the engine's request from the parts, so no way of writing a path leads anywhere
else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from beamhub_core.errors import BeamhubError
from beamhub_core.identity import ACCOUNT_PATTERN
from beamhub_spawners.docker_network import LABEL

MAX_TARGET = 4096
MAX_LABEL = 300
MAX_LABELS = 8
MAX_STOP_S = 60
VERSION = r"(?:/v1\.(?:4[1-9]|[5-9][0-9]))?"  # 1.41 is Docker 20.10, the oldest that we speak to
# A session's container, or the scheduler or a worker of one of its clusters.
CONTAINER_NAME = r"beamhub-[0-9a-f]{32}(?:-[sw]-[0-9a-f]{16})?"
CONTAINER = rf"(?P<container>[0-9a-f]{{64}}|{CONTAINER_NAME})"
PLAN = "[0-9a-f]{32}"
NETWORK = rf"beamhub-(?P<plan>{PLAN})"
ACCOUNT = ACCOUNT_PATTERN.strip("^$")
NAME = r"(?!.*(?:\.\.|//))[a-z0-9][A-Za-z0-9._/:-]{0,250}"
IMAGE = rf"(?P<image>{NAME}(?:(?:@|%40)sha256(?::|%3A)[0-9a-f]{{64}})?)"
# Labels by which the hub looks for containers; the facility's own is added to whatever is asked.
ASKED_LABEL = re.compile(
    rf"{re.escape(LABEL)}(facility|account|server|plan-id|cluster|part)=[A-Za-z0-9_.-]{{1,{MAX_LABEL}}}"
)

Query = dict[str, str]


class NotAdmitted(BeamhubError):
    """A request that the agent does not pass on. `reason` holds nothing of a caller's secrets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason

    def __str__(self) -> str:
        return f"beamhub agent: {self.reason}"


@dataclass(frozen=True, slots=True)
class Asked:
    """An admissible request: its route, what its path names, and its query as the engine will get it."""

    route: str
    parts: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    is_stream: bool = False


def _flag(value: str) -> str:
    known = {"1": "1", "true": "1", "True": "1", "0": "0", "false": "0", "False": "0", "": "0"}
    if value not in known:
        raise ValueError("is neither true nor false")
    return known[value]


def _number(limit: int) -> Callable[[str], str]:
    def read(value: str) -> str:
        if not re.fullmatch(r"[0-9]{1,12}", value) or int(value) > limit:
            raise ValueError(f"is no number up to {limit}")
        return str(int(value))

    return read


def _name(value: str) -> str:
    if not re.fullmatch(CONTAINER_NAME, value):
        raise ValueError("is no session's name")
    return value


def _any_limit(value: str) -> str:
    if value != "-1":
        raise ValueError("is no -1")
    return value


def _tail(value: str) -> str:
    return value if value == "all" else _number(100_000)(value)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in words:
            raise ValueError(f"is none of {', '.join(words)}")
        return value

    return read


def _labels(value: str) -> str:
    asked = json.loads(value)
    if not isinstance(asked, dict) or set(asked) - {"label"}:
        raise ValueError("asks for more than labels")
    labels = asked.get("label", [])
    if isinstance(labels, dict):  # the engine's other way of writing it
        labels = [name for name, is_wanted in labels.items() if is_wanted is True]
    if not isinstance(labels, list) or len(labels) > MAX_LABELS:
        raise ValueError("is no list of labels")
    if not all(isinstance(one, str) and ASKED_LABEL.fullmatch(one) for one in labels):
        raise ValueError("asks for a label that is not ours")
    return json.dumps(labels)


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request: its path behind the version, and how each parameter of its query is read."""

    name: str
    method: str
    path: re.Pattern[str]
    query: Mapping[str, Callable[[str], str]]


def _route(route: str, method: str, path: str, **query: Callable[[str], str]) -> Route:
    return Route(route, method, re.compile(VERSION + path), query)


ROUTES = (
    _route("ping", "GET", "/_ping"),
    _route("version", "GET", "/version"),
    _route("info", "GET", "/info"),
    _route("inventory", "GET", "/beamhub/inventory"),
    _route("home", "GET", rf"/beamhub/home/(?P<account>{ACCOUNT})"),
    _route("folders", "POST", rf"/beamhub/folders/(?P<plan>{PLAN})"),
    _route(
        "list",
        "GET",
        "/containers/json",
        all=_flag,
        limit=_any_limit,
        size=_flag,
        trunc_cmd=_flag,
        filters=_labels,
    ),
    _route("create", "POST", "/containers/create", name=_name),
    _route("start", "POST", f"/containers/{CONTAINER}/start"),
    _route("inspect", "GET", f"/containers/{CONTAINER}/json"),
    _route("stop", "POST", f"/containers/{CONTAINER}/stop", t=_number(MAX_STOP_S)),
    _route(
        "wait",
        "POST",
        f"/containers/{CONTAINER}/wait",
        condition=_one_of("not-running", "next-exit", "removed"),
    ),
    _route(
        "logs",
        "GET",
        f"/containers/{CONTAINER}/logs",
        stdout=_flag,
        stderr=_flag,
        timestamps=_flag,
        follow=_flag,
        tail=_tail,
        since=_number(10**11),
        until=_number(10**11),
    ),
    _route("stats", "GET", f"/containers/{CONTAINER}/stats", **{"stream": _flag, "one-shot": _flag}),
    _route("remove", "DELETE", f"/containers/{CONTAINER}", v=_flag, force=_flag, link=_flag),
    _route("networks", "GET", "/networks", filters=_one_of("{}")),
    _route("network create", "POST", "/networks/create"),
    _route("network connect", "POST", f"/networks/{NETWORK}/connect"),
    _route("network disconnect", "POST", f"/networks/{NETWORK}/disconnect"),
    _route("network remove", "DELETE", f"/networks/{NETWORK}"),
    _route("image", "GET", f"/images/{IMAGE}/json"),
)


def read_request(method: str, target: str) -> Asked:
    """The admissible request that a request line asks for.

    Raises
    ------
    NotAdmitted
        404 words are never used: what is not on the list is 403, whether the engine knows it or not.
    """
    if len(target) > MAX_TARGET:
        raise NotAdmitted(414, "the request line is too long")
    if not target.isascii() or not target.isprintable():
        raise NotAdmitted(403, "not admitted: the request line holds other than plain characters")
    path, _, query = target.partition("?")
    for route in ROUTES:
        match = route.path.fullmatch(path)
        if match is not None and route.method == method:
            read = _read_query(route, query)
            if route.name == "create" and "name" not in read:
                raise NotAdmitted(403, "not admitted: a container without a session's name")
            is_stream = (
                route.name == "wait"
                or (route.name == "logs" and read.get("follow") == "1")
                or (route.name == "stats" and read.get("stream", "1") == "1")
            )
            parts = {name: _plain(value) for name, value in match.groupdict().items()}
            return Asked(route.name, parts, read, is_stream)
    raise NotAdmitted(403, "not admitted: no session needs this request")


def _plain(part: str) -> str:
    """An image's name as it is: clients write its `@` and `:` in either way."""
    return part.replace("%40", "@").replace("%3A", ":")


def _read_query(route: Route, query: str) -> Query:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=16)
    except ValueError:
        raise NotAdmitted(403, "not admitted: the query cannot be read") from None
    read: Query = {}
    for name, value in pairs:
        if name in read or name not in route.query:
            raise NotAdmitted(
                403, f"not admitted: a parameter that {route.name!r} does not have, or has twice"
            )
        try:
            read[name] = route.query[name](value)
        except (ValueError, RecursionError):
            raise NotAdmitted(403, f"not admitted: the value of {name!r}") from None
    return read


def asked_labels(asked: Asked) -> tuple[str, ...]:
    """The labels that a list asks for."""
    labels: list[Any] = json.loads(asked.query.get("filters", "[]"))
    return tuple(labels)
