"""What a harvester asks: the six verbs with their arguments, checked.

Source: OAI-PMH 2.0, sections 3.6 (errors), 2.7.1 (selective harvesting, granularity), 4 (verbs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from beamhub_core.errors import BeamhubError

PREFIXES = ("oai_dc", "oai_datacite", "datacite", "oai_openairedata")
_LISTING = frozenset({"from", "until", "set", "metadataPrefix", "resumptionToken"})
VERBS: Mapping[str, frozenset[str]] = {
    "Identify": frozenset(),
    "ListMetadataFormats": frozenset({"identifier"}),
    "ListSets": frozenset({"resumptionToken"}),
    "ListIdentifiers": _LISTING,
    "ListRecords": _LISTING,
    "GetRecord": frozenset({"identifier", "metadataPrefix"}),
}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class OaiError(BeamhubError):
    """An error of the protocol, told in the answer; `code` is the protocol's own word."""

    exit_code = 1

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list is made of; `since` and `until` are inclusive and whole seconds."""

    prefix: str
    set_spec: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class OaiRequest:
    """A request whose verb and arguments are right by themselves."""

    verb: str
    arguments: Mapping[str, str]
    token: str | None = None
    identifier: str | None = None
    selection: Selection | None = None


def parse_request(pairs: Sequence[tuple[str, str]]) -> OaiRequest:
    """The request that query or form make together.

    Raises
    ------
    OaiError
        badVerb or badArgument, or cannotDisseminateFormat for a prefix that we do not have.
    """
    verbs = [value for name, value in pairs if name == "verb"]
    if len(verbs) != 1 or verbs[0] not in VERBS:
        found = (
            "no verb" if not verbs else "several verbs" if len(verbs) > 1 else f"the verb {verbs[0][:60]!r}"
        )
        raise OaiError("badVerb", f"The request has {found}; it has to be one of {', '.join(VERBS)}.")
    verb, arguments = verbs[0], _arguments(pairs, verbs[0])
    if "resumptionToken" in arguments:
        if len(arguments) > 1:
            raise OaiError("badArgument", "resumptionToken is an exclusive argument: give it alone.")
        return OaiRequest(verb, arguments, token=arguments["resumptionToken"])
    identifier = arguments.get("identifier")
    if verb == "GetRecord" and identifier is None:
        raise OaiError("badArgument", "GetRecord needs the argument identifier.")
    if verb not in ("GetRecord", "ListIdentifiers", "ListRecords"):
        return OaiRequest(verb, arguments, identifier=identifier)
    return OaiRequest(verb, arguments, identifier=identifier, selection=_selection(verb, arguments))


def parse_datestamp(text: str, name: str, *, last: bool = False) -> datetime:
    """A date argument as an instant; the last second of a day with `last`.

    Raises
    ------
    OaiError
        badArgument for a text of neither granularity, and for a day that there is not.
    """
    day = _DAY.fullmatch(text) is not None
    if not day and _SECOND.fullmatch(text) is None:
        raise OaiError("badArgument", f"{name} has to be YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ.")
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
        return moment + timedelta(days=1, seconds=-1) if day and last else moment
    except (ValueError, OverflowError):
        raise OaiError("badArgument", f"{name} is no date that there is.") from None


def _arguments(pairs: Sequence[tuple[str, str]], verb: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for name, value in pairs:
        if name == "verb":
            continue
        if name not in VERBS[verb]:
            raise OaiError("badArgument", f"{verb} takes no argument {name[:60]!r}.")
        if name in arguments:
            raise OaiError("badArgument", f"The argument {name} stands twice.")
        if not value:
            raise OaiError("badArgument", f"The argument {name} is empty.")
        arguments[name] = value
    return arguments


def _selection(verb: str, arguments: Mapping[str, str]) -> Selection:
    prefix = arguments.get("metadataPrefix")
    if prefix is None:
        raise OaiError("badArgument", f"{verb} needs the argument metadataPrefix.")
    since, until = arguments.get("from"), arguments.get("until")
    if since and until and len(since) != len(until):
        raise OaiError("badArgument", "from and until have to have the same granularity.")
    start = parse_datestamp(since, "from") if since else None
    end = parse_datestamp(until, "until", last=True) if until else None
    if start and end and start > end:
        raise OaiError("badArgument", "from is later than until.")
    if prefix not in PREFIXES:
        raise OaiError("cannotDisseminateFormat", f"There are the formats {', '.join(PREFIXES)}.")
    return Selection(prefix, arguments.get("set"), start, end)
