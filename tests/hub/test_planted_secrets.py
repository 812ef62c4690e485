"""No secret of a login comes up in log, page or header, on no path that ends in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.planted_secrets import run_paths, short_paths  # the folder of these tests, not the room

pytestmark = pytest.mark.hub


def test_no_planted_secret_is_found_at_debug_level(tmp_path: Path) -> None:
    result = run_paths(tmp_path / "hub", short_paths())
    assert result["found"] == []
    assert result["planted"] >= 200, "enough was planted to be found"
    assert {"200", "302", "403", "404", "500", "503"} <= set(result["statuses"])
