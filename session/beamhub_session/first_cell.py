"""The moment at which somebody's first cell was executed: the last phase of a start."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"


class FirstCell:
    """Listens to each new kernel until one has executed a cell; a cell that failed was executed, too."""

    def __init__(self, serverapp: Any) -> None:
        self._app = serverapp
        self._streams: dict[str, Any] = {}
        self._running: set[str] = set()
        self.executed_at: float | None = None
        """On the monotonic clock."""
        self._when_used: Callable[[], None] = lambda: None

    def listen(self, when_used: Callable[[], None]) -> None:
        """Begin, once the server has its event logger; `when_used` is called for each new kernel."""
        self._when_used = when_used
        self._app.event_logger.add_listener(schema_id=KERNEL_ACTIONS, listener=self._on_kernel)

    @property
    def ago_s(self) -> float | None:
        """Seconds since the first cell was executed."""
        return None if self.executed_at is None else time.monotonic() - self.executed_at

    async def _on_kernel(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        del logger, schema_id
        if data.get("action") == "start" and data.get("status", "success") == "success":
            self._when_used()
            self.watch(str(data.get("kernel_id", "")))

    def watch(self, kernel_id: str) -> None:
        """Listen to a kernel, unless the first cell is known already."""
        if self.executed_at is not None or kernel_id in self._streams:
            return
        try:
            kernel = self._app.kernel_manager.get_kernel(kernel_id)
        except (KeyError, LookupError):
            return
        stream = kernel.connect_iopub()
        self._streams[kernel_id] = stream
        session = kernel.session

        def on_message(parts: list[bytes]) -> None:
            _, found = session.feed_identities(parts)
            # The signature was checked by whoever shows the message; a second check would call it a replay.
            self.take(session.unpack(found[1]), session.unpack(found[2]), session.unpack(found[4]))

        stream.on_recv(on_message)

    def take(self, header: dict[str, Any], parent: dict[str, Any], content: dict[str, Any]) -> None:
        """One message of a kernel: a cell begins with `execute_input` and is done when it says `idle`."""
        cell = str(parent.get("msg_id", ""))
        if header.get("msg_type") == "execute_input":
            self._running.add(cell)
        elif (
            header.get("msg_type") == "status"
            and content.get("execution_state") == "idle"
            and cell in self._running
            and self.executed_at is None
        ):
            self.executed_at = time.monotonic()
            self._app.log.info("beamhub: first cell executed")
            self._app.io_loop.add_callback(self.close)

    def close(self) -> None:
        """Stop listening."""
        for stream in self._streams.values():
            if not stream.closed():
                stream.close()
        self._streams.clear()
        self._running.clear()
