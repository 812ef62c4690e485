"""The base of every section of `facility.yaml`, and the kinds of value that several sections use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class HoldsSecret:
    """Marks the path of a secret: `beamhub check` looks at its mode, and no message shows the value."""


def _clean(path: Path) -> Path:
    text = str(path)
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("a path holds no control character")
    if ".." in path.parts:
        raise ValueError(f"{text!r} holds '..'; write the path that is meant")
    return path


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path")
    return _clean(path)


def _absolute_secret(path: Path) -> Path:
    if not path.is_absolute():  # somebody wrote the secret itself here: it must not reach a log
        raise ValueError("is not an absolute path; put the secret into a file and name that file here")
    return _clean(path)


def _reachable(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.port == 0 or not parts.hostname:
            raise ValueError
    except ValueError:
        raise ValueError(f"{url!r} has no host or no port between 1 and 65535") from None
    return url


def _database(url: str) -> str:
    """The URL of a database of the web service; no message repeats it, for it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        named = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.password is not None or not named.isdisjoint({"password", "sslpassword"}):
        raise ValueError("holds a password; put it into a file and name that in database_password_file")
    if not url.isprintable() or parts.fragment:
        raise ValueError("holds a control character or a '#'")
    if parts.scheme == "sqlite":
        return url
    if parts.scheme not in ("postgresql", "postgresql+psycopg"):
        raise ValueError("is neither sqlite:////path/of/file nor postgresql://user@host/database")
    if not parts.path.strip("/"):
        raise ValueError("names no database; write postgresql://user@host/database")
    return url


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
SecretFile = Annotated[
    Path,
    AfterValidator(_absolute_secret),
    HoldsSecret(),
    Field(description="Absolute path of a file that holds the secret."),
]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"), AfterValidator(_reachable)]
SectionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of the zone files
        raise ValueError(f"{name!r} is not an IANA time zone, e.g. 'Europe/Paris'") from error
    return name


TimeZoneName = Annotated[str, AfterValidator(_known_zone)]
"""The IANA name of a time zone that this machine knows."""
