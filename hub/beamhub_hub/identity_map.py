"""The facility's own word on accounts and numeric ids, asked at each login and refresh.

Three kinds answer: a table (`identity_map_csv`), a directory (`identity_map_ldap`), the machine's name
service (`identity_map_nss`). What all of them say is checked here, before any of it counts.
"""

from __future__ import annotations

import logging
from typing import Protocol

from beamhub_core.config.identity_map import IdentityMapConfig
from beamhub_core.errors import BeamhubError, ConfigInvalid
from beamhub_core.identity import Principal
from beamhub_core.identity_table import NOBODY, MappedIdentity
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.lookup_threads import LookupThreads

log = logging.getLogger(__name__)

N_UNMAPPED = 1_000_000
"""Numbers from `sessions.unmapped_uid_first` on that accounts without one of their own are given."""


class IdentityMapUnavailable(ProviderUnavailable):
    """The map cannot be asked: nobody logs in, and in a refresh the last answer counts for its time of grace.

    Where a provider that does not answer is caught, this is too.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("identity map", reason)
        self.args = (reason,)

    def __str__(self) -> str:
        return f"The identity map gives no usable answer ({self.reason}) [reference {self.reference}]"


class MapAmbiguous(BeamhubError):
    """What was asked leads to more than one person."""


class MapEntryUnfit(BeamhubError):
    """The person is in the map, with something that cannot be used; nothing of the entry counts."""


class IdentitySource(Protocol):
    """One kind of map; runs in a thread, and may be asked by several at once."""

    limit_s: float

    def find(self, principal: Principal) -> MappedIdentity | None:
        """What the map says of a person; None for one that it does not know.

        Raises
        ------
        MapAmbiguous, MapEntryUnfit
            As it says; messages name no value of the login.
        IdentityMapUnavailable, ConfigInvalid
            If it cannot be asked.
        """


class IdentityMap:
    """The map of one `IdentityMapConfig`. Belongs to one event loop; not thread-safe."""

    def __init__(
        self, config: IdentityMapConfig, *, unmapped_uid_first: int, source: IdentitySource | None = None
    ) -> None:
        self._config = config
        self._unmapped = range(unmapped_uid_first, unmapped_uid_first + N_UNMAPPED)
        self._source = source if source is not None else _source_of(config)
        self._threads = LookupThreads()

    async def find(self, principal: Principal) -> MappedIdentity | None:
        """Who a person is at the facility; None for one that the map does not know, or of whom it says
        something that cannot be used: then the log says what.

        Raises
        ------
        LoginDenied
            `not_in_map` for such a person where the map is required, `map_ambiguous` where the map leads to
            several people.
        IdentityMapUnavailable
            If the map cannot be asked.
        """
        try:
            mapped = await self._threads.run(self._source.limit_s, self._source.find, principal)
        except TimeoutError:
            raise IdentityMapUnavailable("no answer in time") from None
        except ConfigInvalid as error:
            log.error("identity map not usable: %s", error)
            raise IdentityMapUnavailable("broken") from None
        except MapAmbiguous as error:
            log.error("identity map ambiguous: account=%s reason=%s", principal.account, error)
            raise LoginDenied("map_ambiguous") from None
        except MapEntryUnfit as error:
            log.error("identity map refused: account=%s reason=%s", principal.account, error)
            mapped = None
        if mapped is not None:
            mapped = self._checked(principal, mapped)
        if mapped is None and self._config.is_required:
            raise LoginDenied("not_in_map")
        return mapped

    def apply(self, principal: Principal, mapped: MappedIdentity | None) -> Principal:
        """The person with what the map says in place of what claims said.

        Numeric ids are the map's alone as soon as it knows the person. Those that claims gave to a person
        that it does not know stay, if they pass the same checks.
        """
        if mapped is None:
            problem = self._id_problem(principal.uid, principal.gid)
            if principal.uid is None or problem is None:
                return principal.model_copy(update={"gids": self._usable(principal, principal.gids)})
            log.error("ids of claims refused: account=%s reason=%s", principal.account, problem)
            return principal.model_copy(update={"uid": None, "gid": None, "gids": ()})
        return principal.model_copy(
            update={
                "facility_account": mapped.account,
                "uid": mapped.uid,
                "gid": mapped.gid,
                "gids": mapped.gids,
                "home_organisation": mapped.home_organisation or principal.home_organisation,
                "display_name": mapped.display_name or principal.display_name,
            }
        )

    def _checked(self, principal: Principal, mapped: MappedIdentity) -> MappedIdentity | None:
        """What may be used of an entry: all of it but the system's groups, or nothing."""
        if mapped.uid is None:
            return mapped
        problem = self._id_problem(mapped.uid, mapped.gid)
        if problem is not None:
            log.error("identity map refused: account=%s reason=%s", principal.account, problem)
            return None
        return mapped.model_copy(update={"gids": self._usable(principal, mapped.gids)})

    def _id_problem(self, uid: int | None, gid: int | None) -> str | None:
        if uid is None or gid is None:
            return "uid and gid do not stand together"
        if uid < self._config.min_uid or uid in NOBODY:
            return f"uid {uid} is the system's"
        if gid < self._config.min_gid or gid in NOBODY:
            return f"gid {gid} is the system's"
        if uid in self._unmapped or gid in self._unmapped:
            return f"uid {uid} or gid {gid} is kept for accounts without one"
        return None

    def _usable(self, principal: Principal, gids: tuple[int, ...]) -> tuple[int, ...]:
        """The further groups, each once, without those of the system."""
        kept = [
            gid
            for gid in dict.fromkeys(gids)
            if gid >= self._config.min_gid and gid not in NOBODY and gid not in self._unmapped
        ]
        if len(kept) < len(set(gids)):
            n_left = len(set(gids)) - len(kept)
            log.warning("groups of the system left out: account=%s number=%d", principal.account, n_left)
        return tuple(kept)


def _source_of(config: IdentityMapConfig) -> IdentitySource:
    # Imported where it is used: only the directory needs ldap3.
    if config.ldap is not None:
        from beamhub_hub.identity_map_ldap import LdapSource

        return LdapSource(config.ldap)
    if config.file is not None:
        from beamhub_hub.identity_map_csv import CsvSource

        return CsvSource(config.file, limit_s=config.timeout_s)
    from beamhub_hub.identity_map_nss import NssSource

    return NssSource(limit_s=config.timeout_s)
