"""The OpenAPI document of the internal API: made from its routes, kept in `docs/reference`, never served."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi.openapi.utils import get_openapi

from beamhub_catalogue.internal import MAX_BODY_BYTES, InternalApi
from beamhub_catalogue.internal_words import SECURITY_SCHEME, SESSION_SCHEME
from beamhub_core.errors import BeamhubError

DOCUMENT_FILE = Path("docs/reference/internal-api.openapi.json")
API_VERSION = "1"
ABOUT = (
    "Spoken between the platform's own processes; see internal-api.md. `x-scope` is the scope that a "
    "client's token needs, `x-idempotent` whether asking twice is asking once, and `x-max-body-bytes` the "
    "largest body."
)


class StaleDocument(BeamhubError):
    """The document is not what the routes say now."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file

    def __str__(self) -> str:
        return f"Stale: {self.file}. Run: beamhub catalogue openapi"


def build_document() -> dict[str, Any]:
    """The document, from the routes as the service has them."""
    # The handlers are described here and never called: no catalogue stands behind them.
    nothing: Any = SimpleNamespace(database=None, config=SimpleNamespace(web=SimpleNamespace(clients=())))
    routes = InternalApi(nothing, nothing, lambda: False).router(described=True).routes
    document = get_openapi(
        title="beamhub internal API",
        version=API_VERSION,
        openapi_version="3.1.0",
        description=ABOUT,
        routes=routes,
    )
    document["x-max-body-bytes"] = MAX_BODY_BYTES
    document.setdefault("components", {})["securitySchemes"] = {
        SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `web.clients`; its scopes stand beside it in facility.yaml.",
        },
        SESSION_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "The token of a running session's server.",
        },
    }
    return document


def document_text() -> str:
    """The document as it is committed: the same for the same routes."""
    return json.dumps(build_document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def run_openapi(arguments: argparse.Namespace) -> int:
    """Write the document into a checkout, or with `--check` raise `StaleDocument` where it differs."""
    path, text = arguments.root / DOCUMENT_FILE, document_text()
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    if arguments.check:
        raise StaleDocument(str(DOCUMENT_FILE))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    sys.stderr.write(f"beamhub: wrote {DOCUMENT_FILE}\n")
    return 0
