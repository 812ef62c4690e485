"""A directory that does not answer as one: the map is not available, in bounded time and size."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_hub.identity_map import IdentityMapUnavailable
from hub.identity_map_parts import find, ldap_map, person


class Port:
    """A port that takes one connection at a time and answers what the test says, or nothing."""

    def __init__(self, answer: bytes, *, repeats: int = 1) -> None:
        self._answer, self._repeats = answer, repeats
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Port:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            with taken:
                taken.settimeout(20)
                try:
                    taken.recv(4096)
                    for _ in range(self._repeats):
                        taken.sendall(self._answer)
                    while taken.recv(4096):
                        pass
                except OSError:
                    continue


ANSWERS = st.binary(min_size=1, max_size=60) | st.binary(max_size=40).map(
    lambda text: b"\x30" + bytes([len(text)]) + text
)


def plain(url: str) -> dict[str, Any]:
    return {"url": url, "base_dn": "dc=example,dc=org", "unsafe_allow_plain": True, "timeout_s": 1.0}


def test_a_directory_that_says_nothing_ends_in_time() -> None:
    with Port(b"") as port, pytest.raises(IdentityMapUnavailable):
        find(ldap_map(plain(port.url)), person("ines"))


def test_an_answer_without_end_is_cut_off() -> None:
    endless = b"\x30\x84\x7f\xff\xff\xff" + b"\x04" * 65536
    with Port(endless, repeats=200) as port, pytest.raises(IdentityMapUnavailable):
        find(ldap_map(plain(port.url) | {"timeout_s": 20.0}), person("ines"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(answer=ANSWERS)
def test_whatever_is_answered_instead_of_ldap_the_map_is_not_available(answer: bytes) -> None:
    with Port(answer) as port, pytest.raises(IdentityMapUnavailable):
        find(ldap_map(plain(port.url) | {"timeout_s": 0.2}), person("ines"))
