"""A notebook's kernel in the user's own server, through the proxy: Jupyter messaging over a websocket.

Source: Jupyter messaging protocol 5.4; jupyter-server's kernel websocket in its JSON form.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from journey.names import connect_to
from journey.person import Person


class CellFailed(RuntimeError):
    """A cell raised."""


@dataclass
class Output:
    """What one cell gave."""

    text: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)  # as a notebook file keeps them
    error: str | None = None

    def json(self) -> Any:
        """The last printed line, read as JSON."""
        return json.loads(self.text.strip().splitlines()[-1])


class Channel:
    """One websocket to one kernel."""

    def __init__(self, person: Person, server_url: str, kernel_id: str) -> None:
        self.session = uuid.uuid4().hex
        path = f"{server_url.rstrip('/')}/api/kernels/{kernel_id}/channels?session_id={self.session}"
        xsrf = person.cookie("_xsrf", server_url + "/")
        if xsrf:
            path += f"&_xsrf={quote(xsrf)}"
        parts = urlsplit(server_url)
        # Newer websockets warn of a connection that no `with` opened; this channel closes it itself.
        self.socket: ClientConnection = connect(
            "ws" + path.removeprefix("http"),
            sock=connect_to(server_url),
            additional_headers={"Cookie": person.cookie_header(path)},
            origin=f"{parts.scheme}://{parts.netloc}",  # type: ignore[arg-type]  # websockets' NewType of str
            max_size=64 * 2**20,
            proxy=None,
        ).__enter__()

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, code: str) -> str:
        """Ask for an execution and return its message id."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "username": "",
            "session": self.session,
            "msg_type": "execute_request",
            "version": "5.3",
        }
        header["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "allow_stdin": False,
            "stop_on_error": True,
        }
        self.socket.send(
            json.dumps(
                {
                    "channel": "shell",
                    "header": header,
                    "parent_header": {},
                    "metadata": {},
                    "content": content,
                }
            )
        )
        return message_id

    def collect(self, message_id: str, *, seconds: float) -> Output:
        """Everything the execution gave, once the kernel says that it is idle again."""
        output = Output()
        deadline = time.monotonic() + seconds
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.1, deadline - time.monotonic())))
            if message.get("parent_header", {}).get("msg_id") != message_id:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                output.text += content["text"]
                output.shown.append(
                    {"output_type": "stream", "name": content["name"], "text": content["text"]}
                )
            elif kind in ("display_data", "execute_result"):
                shown = {
                    "output_type": kind,
                    "data": content["data"],
                    "metadata": content.get("metadata", {}),
                }
                if kind == "execute_result":
                    shown["execution_count"] = content["execution_count"]
                output.shown.append(shown)
            elif kind == "error":
                output.error = f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                return output

    def run(self, code: str, *, seconds: float = 90) -> Output:
        """Run a cell to its end.

        Raises
        ------
        CellFailed
            With the error's name and message.
        """
        output = self.collect(self.send(code), seconds=seconds)
        if output.error:
            raise CellFailed(f"{output.error}\nin cell:\n{code[:400]}\noutput so far:\n{output.text[-800:]}")
        return output


def open_channel(person: Person, server_url: str, kernel_id: str, *, seconds: float) -> Channel:
    """A websocket to a kernel as soon as the platform gives one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Channel(person, server_url, kernel_id)
        except (OSError, WebSocketException, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no websocket to the kernel in {seconds:.0f} s: {error}") from error
            time.sleep(0.5)
