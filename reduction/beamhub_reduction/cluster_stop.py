"""Ending a cluster at its scheduler's door, when the gateway does not answer."""

from __future__ import annotations

import http.client

from beamhub_core.cluster_record import ClusterRecord
from beamhub_reduction.cluster_door import tls_context

TIMEOUT_S = 10.0


def stop_by_door(record: ClusterRecord) -> bool:
    """Tell the scheduler of a record to end its cluster; whether it said that it does."""
    context = tls_context(record.certificate, record.key, is_server=False)
    connection = http.client.HTTPSConnection(record.host, record.port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("POST", "/stop", body=b"")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
