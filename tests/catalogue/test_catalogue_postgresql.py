"""What PostgreSQL is told, and what happens when it is away."""

import pytest

from beamhub_catalogue.database import Database

pytestmark = pytest.mark.postgresql


def test_a(postgresql_url: str) -> None:
    d = Database(postgresql_url)
    assert d.is_up()
    with d.writing() as s:
        pass
    with d.reading() as s:
        pass
    d.close()
