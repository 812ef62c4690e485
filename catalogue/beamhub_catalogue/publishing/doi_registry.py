"""DOIs at DataCite: drafted, published, updated, hidden; never deleted once they were public.

Source: DataCite REST API guide; states and events in 'DOI states'. The calls are those of the `datacite`
library. A DOI follows from what it names: what was cut off half-way is done again without a second one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from datacite import DataCiteRESTClient
from datacite.errors import DataCiteError, DataCiteNotFoundError, DataCiteServerError, HttpError

from beamhub_catalogue.publishing.datacite import datacite_attributes
from beamhub_catalogue.publishing.record import Record
from beamhub_core.config.publication import DoiConfig
from beamhub_core.errors import BeamhubError, ConfigInvalid, Unavailable

SERVICE = "DataCite"
_SUFFIX_CHARS = 12


class DoiRefused(BeamhubError):
    """DataCite did not take what we sent."""

    def __init__(self, doi: str, reason: str) -> None:
        super().__init__(doi, reason)
        self.doi, self.reason = doi, reason

    def __str__(self) -> str:
        return f"DataCite refused {self.doi}: {self.reason}. Nothing was stored here."


def doi_for(prefix: str, facility: str, kind: str, pid: str) -> str:
    """The DOI of a record: opaque, and always the same; 60 bits of a hash in base 32."""
    digest = hashlib.sha256(f"{facility}\0{kind}\0{pid}".encode()).digest()
    return f"{prefix}/{facility}.{base64.b32encode(digest).decode()[:_SUFFIX_CHARS].lower()}"


class DoiRegistry:
    """The facility's account at DataCite."""

    def __init__(self, config: DoiConfig) -> None:
        """Read the password.

        Raises
        ------
        ConfigInvalid
            If it cannot be read.
        """
        self.prefix = config.prefix
        password = _password(config.password_file)
        self._client = DataCiteRESTClient(
            config.user, password, config.prefix, url=config.url, timeout=config.timeout_s
        )

    def draft(self, record: Record, doi: str) -> str:
        """Reserve a DOI, or renew what its draft says; the state that it is in then."""
        return self._put(doi, _attributes(record, doi), event=None)

    def publish(self, record: Record, doi: str) -> str:
        """Make a DOI findable with what is to be told of the record, or tell that anew; its state then."""
        return self._put(doi, _attributes(record, doi), event="publish")

    def hide(self, doi: str) -> str:
        """Take a DOI out of the search; it goes on to lead to the tombstone page."""
        return self._put(doi, {}, event="hide")

    def _put(self, doi: str, attributes: dict[str, Any], event: str | None) -> str:
        """Raises `DoiRefused` for a refusal, `Unavailable` where DataCite gives no answer."""
        words = attributes | ({"event": event} if event else {})
        try:
            if not self._is_there(doi):
                self._client.post_doi({"type": "dois", "attributes": words})
                return "findable" if event == "publish" else "draft"
            answered = self._client.put_doi(doi, {"type": "dois", "attributes": words})
        except HttpError as error:
            raise Unavailable(SERVICE, type(error).__name__) from None
        except DataCiteError as error:
            reason = _reason(error)
            # The library calls every status that it does not know, such as 422, an error of the server.
            if isinstance(error, DataCiteServerError) and not reason:
                raise Unavailable(SERVICE, type(error).__name__) from None
            raise DoiRefused(doi, reason or type(error).__name__) from None
        return str(answered.get("state", ""))

    def _is_there(self, doi: str) -> bool:
        try:
            self._client.get_doi(doi)
        except DataCiteNotFoundError:
            return False
        return True


def _attributes(record: Record, doi: str) -> dict[str, Any]:
    attributes = datacite_attributes(record)
    return attributes | {"doi": doi, "url": record.url}


def _reason(error: DataCiteError) -> str:
    """What DataCite says is wrong, in one line and bounded; empty where it says nothing."""
    try:
        errors = json.loads(str(error))["errors"]
        text = "; ".join(f"{one.get('source', '')} {one.get('title', '')}".strip() for one in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = ""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:300]


def _password(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"catalogue.publication.doi.password_file: cannot be read ({type(error).__name__})"
        raise ConfigInvalid(str(path), (reason,)) from None
    if not password:
        raise ConfigInvalid(str(path), ("catalogue.publication.doi.password_file: is empty",))
    return password
