"""The identity map as a directory (LDAP), asked for one person at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from beamhub_core.config.identity_map import LdapConfig
from beamhub_core.identity import Identity, Principal
from beamhub_core.identity_table import MAX_GIDS, MappedIdentity, read_number
from beamhub_hub.identity_map import IdentityMapUnavailable, MapAmbiguous, MapEntryUnfit
from beamhub_hub.ldap_connection import (
    DirectoryConnection,
    DirectoryUnavailable,
    Entry,
    TooManyEntries,
    escaped,
)

CLOSE_S = 1.0
_PLACE = re.compile(r"\(([A-Za-z][A-Za-z0-9-]*)=\{([a-z_]+)\}\)")


def filled(template: str, values: Mapping[str, str]) -> str:
    """A filter with escaped values in its places; in one pass, so no value is looked at again."""
    return _PLACE.sub(lambda match: f"({match[1]}={escaped(values[match[2]])})", template)


class LdapSource:
    """People of a directory. Each answer comes over a connection of its own."""

    def __init__(self, config: LdapConfig) -> None:
        self._config = config
        self.limit_s = config.timeout_s + CLOSE_S
        self._places = [(attribute.lower(), place) for attribute, place in _PLACE.findall(config.filter)]

    def find(self, principal: Principal) -> MappedIdentity | None:
        """The entry of the account's own identity, else the one that its linked identities agree on.

        Raises
        ------
        MapAmbiguous
            If several entries fit, or linked identities lead to different accounts.
        MapEntryUnfit
            If the entry's values cannot be used, or its uid is another entry's too.
        IdentityMapUnavailable
            If the directory gives no usable answer in time.
        """
        own, *linked = self._questions(principal)
        try:
            with DirectoryConnection(self._config) as connection:
                found = self._mapped(connection, own)
                if found is not None:
                    return found
                others = [mapped for one in linked if (mapped := self._mapped(connection, one)) is not None]
        except DirectoryUnavailable as error:
            raise IdentityMapUnavailable(error.reason) from None
        if len({mapped.account for mapped in others}) > 1:
            raise MapAmbiguous("linked identities lead to different accounts")
        return others[0] if others else None

    def _questions(self, principal: Principal) -> Iterator[dict[str, str]]:
        """The values to look for: those of the account's own identity first."""
        login = {"orcid": principal.orcid or "", "facility_account": principal.facility_account or ""}
        own = Identity(issuer=principal.issuer, subject=principal.subject)
        linked = principal.linked if any(place == "subject" for _, place in self._places) else ()
        for identity in (own, *linked):
            yield login | {"issuer": identity.issuer, "subject": identity.subject}

    def _mapped(self, connection: DirectoryConnection, values: dict[str, str]) -> MappedIdentity | None:
        if not all(values[place] for _, place in self._places):
            return None
        try:
            found = connection.search(
                self._config.base_dn, filled(self._config.filter, values), self._attributes(), 1
            )
        except TooManyEntries:
            raise MapAmbiguous("several entries fit") from None
        if not found:
            return None
        name, entry = found[0]
        self._check_exact(entry, values)
        account = _single(entry, self._config.account_attribute) or ""
        uid, gid = self._number(entry, "uid"), self._number(entry, "gid")
        if uid is not None:
            self._check_alone(connection, uid)
        try:
            return MappedIdentity(
                account=account,
                uid=uid,
                gid=gid,
                gids=self._groups(connection, name, account) if uid is not None else (),
                home_organisation=_name(entry, self._config.home_organisation_attribute),
                display_name=_name(entry, self._config.display_name_attribute),
            )
        except ValidationError as error:
            fields = ", ".join(str(problem["loc"][0]) for problem in error.errors() if problem["loc"])
            raise MapEntryUnfit(f"unfit values: {fields or 'uid and gid do not stand together'}") from None

    def _attributes(self) -> list[str]:
        config = self._config
        named = (
            config.account_attribute,
            config.uid_attribute,
            config.gid_attribute,
            config.home_organisation_attribute,
            config.display_name_attribute,
            *(attribute for attribute, _ in self._places),
        )
        return list(dict.fromkeys(name for name in named if name is not None))

    def _check_exact(self, entry: Entry, values: dict[str, str]) -> None:
        """Directories may ignore letter case and blanks; issuer and subject are another person's then."""
        for attribute, place in self._places:
            if place in ("issuer", "subject") and values[place].encode() not in entry.get(attribute, ()):
                raise MapEntryUnfit(f"{attribute} is not the {place} letter for letter, or not to be read")

    def _check_alone(self, connection: DirectoryConnection, uid: int) -> None:
        try:
            found = connection.search(
                self._config.base_dn, f"({self._config.uid_attribute}={uid})", [self._config.uid_attribute], 1
            )
        except TooManyEntries:
            found = []
        if len(found) != 1:
            raise MapEntryUnfit(f"uid {uid} is not one entry's alone")

    def _groups(self, connection: DirectoryConnection, name: str, account: str) -> tuple[int, ...]:
        """Numbers of the groups that name the person; a group without one is left out."""
        base = self._config.group_base_dn
        if base is None:
            return ()
        text = filled(self._config.group_filter, {"uid": account, "dn": name})
        try:
            found = connection.search(base, text, [self._config.gid_attribute], MAX_GIDS)
        except TooManyEntries:
            raise MapEntryUnfit(f"more than {MAX_GIDS} groups") from None
        numbers = (self._number(entry, "gid") for _, entry in found)
        return tuple(sorted({number for number in numbers if number is not None}))

    def _number(self, entry: Entry, which: str) -> int | None:
        attribute = self._config.uid_attribute if which == "uid" else self._config.gid_attribute
        text = _single(entry, attribute)
        if text is None:
            return None
        number = read_number(text)
        if number is None:
            raise MapEntryUnfit(f"{attribute} is no number of a {'user' if which == 'uid' else 'group'}")
        return number


def _name(entry: Entry, attribute: str | None) -> str | None:
    """A value that people read; of several, always the same one, since a directory keeps no order."""
    values = entry.get(attribute.lower(), []) if attribute is not None else []
    return _single({"name": [min(values)]}, "name") if values else None


def _single(entry: Entry, attribute: str) -> str | None:
    """The one value of an attribute, as text that can be printed; None without a value."""
    values = entry.get(attribute.lower(), [])
    if len(values) > 1:
        raise MapEntryUnfit(f"{attribute} has several values")
    if not values:
        return None
    try:
        text = values[0].decode("utf-8")
    except UnicodeDecodeError:
        raise MapEntryUnfit(f"{attribute} is no text") from None
    if not text.isprintable():
        raise MapEntryUnfit(f"{attribute} cannot be printed")
    return text or None
