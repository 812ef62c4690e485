"""What an account loses when its login ends, and what more when the account ends; each once and for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from jupyterhub import orm
from jupyterhub.crypto import encrypt
from jupyterhub.utils import new_token

from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_hub.server_stop import stop_server
from beamhub_spawners.web_client import WebClient

ENDING = "ending"
"""The key of an `auth_state` that says what is still to be done for an account that ended. It holds no
identity, so a half-done end gives no right, and it outlives a hub that is killed in the middle."""
_MINTED = "jupyterhub"  # the client id of tokens that people mint and that servers get


def end_logins(user: Any) -> int:
    """End every login of an account, in all browsers; returns how many tokens were deleted.

    Login cookies carry the account's cookie id, so a new one ends them all. Tokens that a browser got for
    the portal or a notebook server are deleted, with codes that would still become tokens. What the person
    minted for scripts, and what runs, stays: a logout takes no right away.
    """
    person: orm.User = user.orm_user
    tokens = [token for token in _rows(user, orm.APIToken.user_id) if token.client_id != _MINTED]
    person.cookie_id = new_token()
    _delete(user.db, (*tokens, *_rows(user, orm.OAuthCode.user_id)))
    user.db.commit()
    return len(tokens)


def _take_everything(user: Any, auth_state: bytes) -> None:
    """Leave an account without groups, cookies, tokens and shares.

    One transaction without a pause in between: no other request of the hub sees half of it.
    """
    person: orm.User = user.orm_user
    person.cookie_id = new_token()
    person.encrypted_auth_state = auth_state
    person.groups = []
    for owner in _OWNERS:
        _delete(user.db, _rows(user, owner))
    user.db.commit()
    user._auth_refreshed = None


_OWNERS = (
    orm.APIToken.user_id,
    orm.OAuthCode.user_id,
    orm.Share.owner_id,
    orm.Share.user_id,
    orm.ShareCode.owner_id,
)
"""What an account has, by the column that says so."""


def _rows(user: Any, owner: Any) -> list[Any]:
    """An account's rows of one kind, as the database has them: the hub's own lists may be older."""
    rows: list[Any] = user.db.query(owner.class_).filter(owner == user.orm_user.id).all()
    return rows


def _delete(db: Any, rows: Iterable[Any]) -> None:
    for row in tuple(rows):
        db.delete(row)


class AccountEnding:
    """Ends accounts. Every step may be repeated; what could not be done is tried again by `finish`."""

    def __init__(self, app: Any, log: Any) -> None:
        self._app, self.log = app, log
        self._unfinished: set[str] = set()
        self.wanted = asyncio.Event()
        """Set when there is something to finish; whoever finishes clears it."""

    @property
    def _web(self) -> WebClient:
        web: WebClient = self._app.authenticator.web
        return web

    async def end(self, user: Any, reason: str) -> None:
        """Take everything from an account now, and tell web; its sessions are left to `finish`.

        The caller holds the account's lock. Web notes the end in the audit.
        """
        state = {ENDING: {"reason": reason, "is_told": False}}
        _take_everything(user, await encrypt(state))
        self.log.warning("account ended: account=%s reason=%s", user.name, reason)
        if await self._told_web(user.name):
            await user.save_auth_state({ENDING: {**state[ENDING], "is_told": True}})
        self._unfinished.add(user.name)  # not before: `finish` would tell web a second time beside us
        self.wanted.set()

    async def finish(self) -> None:
        """Stop what still runs of ended accounts, and tell web where it did not know yet."""
        await asyncio.gather(*(self.finish_one(name) for name in sorted(self._unfinished)))

    async def find_unfinished(self) -> None:
        """Find the accounts whose end an earlier hub left half done. Reads every login's record once."""
        stored = orm.User.encrypted_auth_state.is_not(None)
        for (name,) in self._app.db.query(orm.User.name).filter(stored).all():
            user = self._app.users.get(name)
            if user is not None and ending_in(await user.get_auth_state()) is not None:
                self._unfinished.add(name)
        if self._unfinished:
            self.wanted.set()

    async def finish_one(self, account: str) -> None:
        """The same for one account; nothing for one that did not end."""
        user = self._app.users.get(account)
        state = ending_in(await user.get_auth_state()) if user is not None else None
        if user is None or state is None:  # deleted, or logged in again
            self._unfinished.discard(account)
            return
        running = [spawner.name for spawner in user.spawners.values() if spawner.active]
        stopped = await asyncio.gather(
            *(stop_server(self._app, user, name, "the account ended") for name in running)
        )
        is_told = bool(state.get("is_told")) or await self._told_web(account)
        if ending_in(await user.get_auth_state()) != state:
            return  # a login came in between
        if all(stopped) and is_told:
            await user.save_auth_state(None)
            self._unfinished.discard(account)
        elif is_told != bool(state.get("is_told")):
            await user.save_auth_state({ENDING: {**state, "is_told": is_told}})

    async def _told_web(self, account: str) -> bool:
        try:
            await self._web.remove_principal(account)
        except (Unavailable, Refused) as error:
            self.log.warning("web not told of an ended account: account=%s reason=%s", account, error)
            return False
        return True


def ending_in(auth_state: object) -> dict[str, Any] | None:
    """What is still to be done, where an account's stored state says that it ended."""
    found = auth_state.get(ENDING) if isinstance(auth_state, dict) else None
    return found if isinstance(found, dict) else None
