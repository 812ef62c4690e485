"""One provider and one hub per module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oidc_provider.oidc_provider_parts import (  # the folder of these tests, not a library
    StrictHub,
    accounts,
    strict_hub,
)


@pytest.fixture(scope="module")
def module_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictHub]:
    """A hub with a strict provider."""
    with strict_hub(tmp_path_factory.mktemp("strict")) as hub:
        yield hub


@pytest.fixture
def strict(module_hub: StrictHub) -> StrictHub:
    """The module's hub, with the provider's first accounts and no notes of earlier tests."""
    module_hub.provider.set_accounts(accounts())
    module_hub.hub.web.removed.clear()
    return module_hub
