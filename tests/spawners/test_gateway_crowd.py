"""The crowd before the gateway, in little; `python -m spawners.gateway_crowd` has the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from spawners.gateway_crowd import run_crowd


@pytest.mark.docker  # needs none, but ten seconds: it runs with the slow ones
def test_many_at_once_get_as_many_workers_as_their_proposal_may_have_and_not_one_more(tmp_path: Path) -> None:
    found = run_crowd(tmp_path, users=8, most_workers=10)
    assert found.is_exact(), found
