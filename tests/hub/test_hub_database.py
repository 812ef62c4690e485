"""The hub's database is asked before JupyterHub is."""

from __future__ import annotations

import pytest

from beamhub_hub.hub_database import HubDatabaseUnusable, check_hub_database


def test_a_database_that_is_down_is_named_without_its_password(free_port: int) -> None:
    url = f"postgresql+psycopg://hub:secret-word@127.0.0.1:{free_port}/hub?passfile=/etc/none"
    with pytest.raises(HubDatabaseUnusable, match=str(free_port)) as caught:
        check_hub_database(url)
    assert "secret-word" not in str(caught.value) + caught.value.detail
    assert "passfile" not in str(caught.value)
    assert caught.value.exit_code == 6


def test_text_that_is_no_url_is_not_repeated() -> None:
    with pytest.raises(HubDatabaseUnusable) as caught:
        check_hub_database("secret-word")
    assert "secret-word" not in str(caught.value)


def test_a_file_is_not_looked_at() -> None:
    check_hub_database("sqlite:////nowhere/hub.sqlite")


@pytest.mark.postgresql
def test_a_database_that_answers_is_fine(postgresql_url: str) -> None:
    check_hub_database(postgresql_url.replace("postgresql://", "postgresql+psycopg://", 1))
