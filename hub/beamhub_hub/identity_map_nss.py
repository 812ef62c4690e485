"""The identity map as the machine's name service (SSSD): accounts by the name that a claim gives."""

from __future__ import annotations

import os
import pwd
import re

from beamhub_core.identity import Principal
from beamhub_core.identity_table import ACCOUNT, MAX_GIDS, MAX_ID, MappedIdentity
from beamhub_hub.identity_map import MapEntryUnfit

_ACCOUNT = re.compile(ACCOUNT)


class NssSource:
    """Accounts of this machine. A name service that fails looks like one that knows nobody."""

    def __init__(self, *, limit_s: float) -> None:
        self.limit_s = limit_s

    def find(self, principal: Principal) -> MappedIdentity | None:
        """The account that a claim named; None without such a claim, or for an unknown account.

        Raises
        ------
        MapEntryUnfit
            If the name service calls the account or its number otherwise the other way round.
        """
        asked = principal.facility_account
        if asked is None or not _ACCOUNT.fullmatch(asked):
            return None
        try:
            entry = pwd.getpwnam(asked)
            same = pwd.getpwuid(entry.pw_uid)
        except KeyError:
            return None
        # A directory that ignores letter case answers with its own form of the name.
        if entry.pw_name.lower() != asked.lower() or not _ACCOUNT.fullmatch(entry.pw_name):
            raise MapEntryUnfit("the name service gives another name")
        if same.pw_name != entry.pw_name:
            raise MapEntryUnfit(f"uid {entry.pw_uid} is another account's")
        gids = [gid for gid in os.getgrouplist(entry.pw_name, entry.pw_gid) if gid != entry.pw_gid]
        if len(gids) > MAX_GIDS or not all(0 <= one <= MAX_ID for one in (entry.pw_uid, entry.pw_gid, *gids)):
            raise MapEntryUnfit("more groups than a person has, or a number that is none")
        return MappedIdentity(
            account=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, gids=tuple(sorted(gids))
        )
