"""One directory as the hub asks it: certificates checked, bounded in time and size, no referral followed.

ldap3 has no deadline for a whole answer and no bound on its size, and it compares the certificate's name by
itself, after the handshake. So its socket is wrapped here: the standard library checks the certificate, and
every read counts against a deadline and a number of bytes.
"""

from __future__ import annotations

import math
import ssl
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException
from pyasn1.error import PyAsn1Error

from beamhub_core.config.identity_map import LdapConfig
from beamhub_core.errors import BeamhubError
from beamhub_hub.secret_files import read_secret

MAX_ANSWER_BYTES = 4 * 1024 * 1024
SUCCESS, SIZE_LIMIT_EXCEEDED = 0, 4
# What ldap3 2.9.1 raises on an answer that is no LDAP, beside its own errors; found by sending it such.
_NO_LDAP = (PyAsn1Error, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)

Entry = dict[str, list[bytes]]


class DirectoryUnavailable(BeamhubError):
    """The directory gives no usable answer; `reason` names no value."""

    exit_code = 6

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The directory gives no usable answer ({self.reason})."


class TooManyEntries(BeamhubError):
    """More entries fit than were asked for."""


class DirectoryConnection:
    """A bound connection; a context manager. Belongs to one thread.

    Raises
    ------
    DirectoryUnavailable
        If there is none in time, its certificate does not fit, or it does not accept the bind.
    ConfigInvalid
        If the password's file cannot be used.
    """

    def __init__(self, config: LdapConfig) -> None:
        self._deadline = time.monotonic() + config.timeout_s
        address = urlsplit(config.url)
        uses_tls = address.scheme == "ldaps"
        password = _password(config)
        tls = _CheckedTls(config) if uses_tls else None
        server = ldap3.Server(
            address.hostname or "",
            port=address.port or (636 if uses_tls else 389),
            use_ssl=uses_tls,
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=config.timeout_s,
            allowed_referral_hosts=[],
        )
        self._connection = ldap3.Connection(
            server,
            user=config.bind_dn,
            password=password,
            authentication=ldap3.SIMPLE if config.bind_dn is not None else ldap3.ANONYMOUS,
            client_strategy=ldap3.SYNC,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            auto_escape=False,
            check_names=False,
            read_only=True,
            receive_timeout=math.ceil(config.timeout_s),
        )
        try:
            self._connection.open(read_server_info=False)
            self._connection.socket = _BoundedSocket(self._connection.socket, self._deadline)
            is_bound = self._connection.bind(read_server_info=False)
        except (LDAPException, OSError, *_NO_LDAP) as error:
            self._close()
            problem = tls.problem if tls is not None else None
            raise DirectoryUnavailable(f"TLS: {problem}" if problem else type(error).__name__) from None
        if not is_bound or self._connection.result.get("result") != SUCCESS:
            code = self._connection.result.get("result")
            self._close()
            raise DirectoryUnavailable(f"bind refused, LDAP result {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def search(
        self, base: str, text: str, attributes: list[str], max_entries: int
    ) -> list[tuple[str, Entry]]:
        """Name and attributes (names in lower case) of at most so many entries.

        Raises
        ------
        TooManyEntries
            If there are more.
        DirectoryUnavailable
            If there is no whole answer in time, or it is too large.
        """
        time_s = max(1, math.ceil(self._deadline - time.monotonic()))
        try:
            self._connection.search(
                base, text, attributes=attributes, size_limit=max_entries + 1, time_limit=time_s
            )
            code = self._connection.result.get("result")
            found = [
                (str(one["dn"]), {name.lower(): values for name, values in one["raw_attributes"].items()})
                for one in self._connection.response or ()
                if one["type"] == "searchResEntry"
            ]
        except (LDAPException, OSError, *_NO_LDAP) as error:
            raise DirectoryUnavailable(type(error).__name__) from None
        if code == SIZE_LIMIT_EXCEEDED or (code == SUCCESS and len(found) > max_entries):
            raise TooManyEntries
        if code != SUCCESS:
            raise DirectoryUnavailable(f"LDAP result {code}")
        return found

    def _close(self) -> None:
        socket = self._connection.socket
        with suppress(LDAPException, OSError, *_NO_LDAP):
            self._connection.unbind()
        if socket is not None:
            socket.close()  # ldap3 forgets one that never came to be a connection


def escaped(value: str) -> str:
    """A value in a filter: every byte but letters and digits as `\\xx`. Source: RFC 4515, section 3.

    More than has to be escaped, because ldap3 cuts blanks off a value's ends.
    """
    return "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\{b:02x}" for b in value.encode())


def _password(config: LdapConfig) -> str | None:
    """The password to bind with; an empty one would be an anonymous bind (RFC 4513, 5.1.2)."""
    if config.bind_password_file is None:
        return None
    password = read_secret(config.bind_password_file)
    if not password.isprintable():
        raise DirectoryUnavailable("the password cannot be printed")
    return password


class _CheckedTls(ldap3.Tls):
    """TLS whose certificate and name the standard library checks, in the handshake."""

    def __init__(self, config: LdapConfig) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._ca_file = str(config.ca_file) if config.ca_file is not None else None
        self.problem: str | None = None

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Put TLS on the connection's socket."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self._ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            connection.socket = context.wrap_socket(connection.socket, server_hostname=connection.server.host)
        except ssl.SSLError as error:
            self.problem = getattr(error, "verify_message", None) or error.reason
            raise


class _BoundedSocket:
    """What ldap3 uses of a socket, up to a deadline and a number of bytes."""

    def __init__(self, socket: Any, deadline: float) -> None:
        self._socket, self._deadline, self._left = socket, deadline, MAX_ANSWER_BYTES

    def recv(self, n_bytes: int) -> bytes:
        """The next bytes; TimeoutError after the deadline, OSError after too many."""
        self._wait_no_longer()
        data: bytes = self._socket.recv(n_bytes)
        self._left -= len(data)
        if self._left < 0:
            raise OSError("the answer is too large")
        return data

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        self._wait_no_longer()
        self._socket.sendall(data)

    def shutdown(self, how: int) -> None:
        """End both directions."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _wait_no_longer(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the directory takes too long")
        self._socket.settimeout(left)
