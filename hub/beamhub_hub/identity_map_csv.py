"""The identity map as a table that the facility keeps; read again when the file changed."""

from __future__ import annotations

from pathlib import Path

from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import Principal
from beamhub_core.identity_table import MappedIdentity, Person, read_identity_table
from beamhub_hub.identity_map import MapAmbiguous

_Stamp = tuple[int, int, int, int]


class CsvSource:
    """People of a table, by any identity of theirs; a table with one bad line answers for nobody."""

    def __init__(self, path: Path, *, limit_s: float) -> None:
        self.limit_s = limit_s
        self._path = path
        self._read: tuple[_Stamp, dict[Person, MappedIdentity]] | None = None

    def find(self, principal: Principal) -> MappedIdentity | None:
        """The row of the account's own identity, else the one that its linked identities agree on.

        Raises
        ------
        MapAmbiguous
            If rows of linked identities lead to different accounts.
        ConfigInvalid
            If the table cannot be read, with its bad lines.
        """
        people = self._people()
        own, *linked = ((one.issuer, one.subject) for one in principal.identities)
        if own in people:
            return people[own]
        found = [people[one] for one in linked if one in people]
        if len({mapped.account for mapped in found}) > 1:
            raise MapAmbiguous("linked identities lead to different accounts")
        return found[0] if found else None

    def _people(self) -> dict[Person, MappedIdentity]:
        """The table; a file that was written while it was read is read again next time."""
        stamp = self._stamp()
        if self._read is None or self._read[0] != stamp:
            people = read_identity_table(self._path)
            if self._stamp() != stamp:
                return people
            self._read = (stamp, people)
        return self._read[1]

    def _stamp(self) -> _Stamp:
        try:
            found = self._path.stat()
        except OSError as error:
            raise ConfigInvalid(str(self._path), (f"cannot be read: {error.strerror}",)) from error
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
