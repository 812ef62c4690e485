"""One Keycloak per run, one realm per module: what a test changes in a realm, no other module meets."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from keycloak.keycloak_parts import (  # the folder of these tests, not a library
    KeycloakHub,
    Realm,
    keycloak_hub,
    keycloak_server,
)


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running Keycloak."""
    with keycloak_server(tmp_path_factory.mktemp("keycloak") / "start.log") as address:
        yield address


@pytest.fixture(scope="module")
def realm(keycloak: str) -> Iterator[Realm]:
    """A realm of the module's own."""
    realm = Realm(f"facility-{secrets.token_hex(4)}", keycloak)
    realm.create()
    yield realm
    realm.delete()


@pytest.fixture(scope="module")
def at_realm(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakHub]:
    """A hub whose provider is the module's realm."""
    with keycloak_hub(tmp_path_factory.mktemp("hub"), realm) as hub:
        yield hub
