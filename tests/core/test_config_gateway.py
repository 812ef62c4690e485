"""The gateway's section: what contradicts itself is said, and nothing of it is needed."""

from __future__ import annotations

from typing import Any

import pytest

from core.config_parts import Make, everything, problems_of


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tls_cert_file": "/x/cert.pem"}, "tls_cert_file and tls_key_file stand together"),
        ({"session_url": "https://gateway.example.org:8786"}, "where tls_cert_file stands, and only there"),
        ({"internal_port": 8786}, "internal_port and listen_port are one port"),
        ({"metrics_port": 8786}, "metrics_port is another port's number"),
        ({"database_url": "postgresql://gateway@db/gateway"}, "no sqlite:////path/of/file"),
        ({"grace_s": 5000}, "grace_s is above max_grace_s"),
        ({"token_cache_s": 31}, "less than or equal to 30"),
        ({"limits": {"groups": [{"name": "a", "gid": 1}, {"name": "a", "gid": 2}]}}, "'a' stands twice"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(
    facility_config: Make, changes: dict[str, Any], said: str
) -> None:
    file = facility_config()
    data = everything(file)
    data["gateway"] |= changes
    found = problems_of(file.write(data))
    assert len(found) == 1, found
    assert said in found[0]
    assert found[0].startswith("gateway")


def test_a_facility_without_a_gateway_has_none(facility_config: Make) -> None:
    assert facility_config().read().gateway is None
