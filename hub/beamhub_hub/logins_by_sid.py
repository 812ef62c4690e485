"""Which account a provider's session (`sid`) belongs to, for logouts that name nothing else."""

from __future__ import annotations

from collections import OrderedDict

from beamhub_hub.login_record import LoginRecord

MAX_SESSIONS = 50_000


class LoginsBySid:
    """Accounts by (provider, sid): of every login since the hub started, and what `note` was told of before.

    A session that was replaced by a later one stays: another browser may still live from it. Beyond
    MAX_SESSIONS the one that was noted longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._accounts: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.is_complete = False
        """Whether the records of logins before this hub's start were noted, too."""

    def note(self, record: LoginRecord) -> None:
        """Remember the sessions of an account's identities."""
        for identity in record.identities:
            sid = identity.signed_claims.get("sid")
            if isinstance(sid, str):
                self._accounts[identity.provider, sid] = record.principal.account
                self._accounts.move_to_end((identity.provider, sid))
        while len(self._accounts) > MAX_SESSIONS:
            self._accounts.popitem(last=False)

    def find(self, provider: str, sid: str) -> str | None:
        """The account of a session; None for one that nobody noted."""
        return self._accounts.get((provider, sid))
