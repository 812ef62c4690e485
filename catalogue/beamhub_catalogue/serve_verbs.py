"""What `beamhub catalogue serve` does: the search API alone, for whoever comes, without portal and hub."""

from __future__ import annotations

import argparse
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from beamhub_catalogue.search_api import SearchApi
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.shown import opened_service
from beamhub_core.errors import Unavailable

GRACE_S = 5
RETRY_AFTER_S = 5


def search_app(service: CatalogueService) -> FastAPI:
    """The search API for anonymous callers, with its OpenAPI document at `/api/openapi.json`."""
    app = FastAPI(
        title="PaNOSC search API",
        summary=f"Datasets, documents and instruments of {service.config.name}",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.include_router(SearchApi(service.desk, lambda request: None).router())

    @app.exception_handler(Unavailable)
    def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        body = {"statusCode": 503, "name": "Unavailable", "message": str(error), "code": "TRY_LATER"}
        return JSONResponse({"error": body}, 503, {"Retry-After": str(RETRY_AFTER_S)})

    return app


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until told to stop. Harvest and user offices are others' work; tables are read as they are."""
    with opened_service(arguments) as service:
        sys.stdout.write(f"http://{arguments.host}:{arguments.port}/api/Datasets\n")
        sys.stdout.flush()
        server = uvicorn.Server(
            uvicorn.Config(
                search_app(service),
                host=arguments.host,
                port=arguments.port,
                access_log=False,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        server.run()
    return 0 if server.started else 1
