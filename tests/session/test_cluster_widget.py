"""The card of a cluster in a real kernel: what it displays, and what its buttons do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

DEADLINE_S = 120.0
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def kernel(outside: None) -> Iterator[Any]:
    manager, client = start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session around."""
    for name in ("BEAMHUB_SESSION_FILE", "BEAMHUB_GATEWAY_URL", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def shown(kernel: Any, code: str) -> dict[str, str]:
    """What a cell displays, by media type; its last words as 'text'."""
    found: dict[str, str] = {}

    def take(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "execute_result":
            found.update(content["data"])
        elif message["msg_type"] == "stream":
            found["text"] = found.get("text", "") + content["text"]

    kernel.execute_interactive(code, timeout=DEADLINE_S, output_hook=take)
    return found


@pytest.mark.docker  # needs none, but five seconds: it runs with the slow ones
def test_the_card_in_a_kernel_has_text_page_and_buttons_that_scale_and_stop(kernel: Any) -> None:
    shown(kernel, "import beamhub_reduction; client = beamhub_reduction.connect(workers=2)")
    card = shown(kernel, "client")
    assert "2 workers, 2 cores" in card["text/plain"]
    assert "<table>" in card["text/html"]
    assert WIDGET in card

    press = "buttons = client._widget; buttons._workers.value = 3; buttons._scale.click()"
    shown(kernel, press)
    size = shown(kernel, "client.wait_for_workers(3, timeout=30); print(client.card().n_workers)")
    assert size["text"].strip() == "3"
    shown(kernel, "buttons._stop.click()")
    assert "(closed)" in shown(kernel, "client")["text/plain"]
    assert shown(kernel, "print(client.status, buttons._stop.disabled)")["text"].strip() == "closed True"
