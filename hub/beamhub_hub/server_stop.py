"""Stop one server of one account, as the hub itself would."""

from __future__ import annotations

import asyncio
from typing import Any

STOP_TIMEOUT_S = 60.0


async def stop_server(app: Any, user: Any, server_name: str, reason: str) -> bool:
    """Take a server's route away and stop it; whether it is stopped now. Never raises.

    One that starts or stops at this moment is left as it is: the next round finds it.
    """
    spawner = user.spawners.get(server_name)
    if spawner is None or not spawner.active:
        return True
    if spawner.pending:
        return False
    app.log.warning("stopping a session: account=%s server=%s reason=%s", user.name, server_name, reason)
    spawner.stop_reason = reason
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await app.proxy.delete_user(user, server_name)
            await user.stop(server_name)
    except Exception:
        # One server that does not stop must not keep the others running; the next round tries again.
        app.log.exception("session %s of %s did not stop", server_name, user.name)
        return False
    return True
