"""The routes of the PaNOSC search API, below `/api`.

Rights are part of every query (`guards`): a list, a count and a look by pid agree, and what a reader may not
see can be neither compared, sorted by nor counted.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_brackets import told_in_brackets
from beamhub_catalogue.search_filter import (
    FilterInvalid,
    Group,
    Include,
    SearchFilter,
    parse_filter,
    parse_where,
)
from beamhub_core.identity import Principal

MAX_PID = 300
FilterText = Annotated[
    str | None, Query(alias="filter", description="A JSON object; or in brackets, filter[where][pid]=...")
]
WhereText = Annotated[
    str | None, Query(alias="where", description="A JSON object; or in brackets, where[pid]=...")
]


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A filter that is not understood: error.message says where, and why"},
    404: {"description": "Nothing of that pid that the caller may know of"},
}


class SearchApi:
    """The handlers; each is a plain function that runs in a thread."""

    def __init__(self, desk: Desk, resolve_principal: Callable[[Request], Principal | None]) -> None:
        self._desk, self._resolve = desk, resolve_principal

    def router(self) -> APIRouter:
        """The routes, with the prefix `/api`."""
        router = APIRouter(prefix="/api", tags=["search"], route_class=_SearchRoute)
        for path, handler in (
            ("/Datasets", self.datasets),
            ("/Datasets/count", self.count_datasets),
            ("/Datasets/facets", self.facets),
            ("/Datasets/{pid}", self.dataset),
            ("/Datasets/{pid}/files", self.files),
            ("/Datasets/{pid}/files/count", self.count_files),
            ("/Documents", self.documents),
            ("/Documents/count", self.count_documents),
            ("/Documents/{pid}", self.document),
            ("/Instruments", self.instruments),
            ("/Instruments/count", self.count_instruments),
            ("/Instruments/{pid}", self.instrument),
        ):
            router.add_api_route(path, handler, methods=["GET"], response_model=None, responses=_ERRORS)
        return router

    def datasets(self, request: Request, filter_text: FilterText = None) -> Any:
        """Datasets that the caller may know of."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            return answers.datasets(wanted)

    def count_datasets(
        self, request: Request, where_text: WhereText = None, filter_text: FilterText = None
    ) -> Any:
        """How many datasets match."""
        where, include = _counted(request)
        with self._answers(request) as answers:
            return {"count": answers.count_datasets(where, include)}

    def facets(self, request: Request, where_text: WhereText = None, filter_text: FilterText = None) -> Any:
        """How many datasets match, by instrument, technique, year and more. Not of the PaNOSC standard."""
        where, include = _counted(request)
        with self._answers(request) as answers:
            return answers.facets(where, include)

    def dataset(self, request: Request, pid: str, filter_text: FilterText = None) -> Any:
        """One dataset."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            return answers.dataset(pid, wanted) or _unknown("Dataset", pid)

    def files(self, request: Request, pid: str, filter_text: FilterText = None) -> Any:
        """The files of a dataset that the caller may read."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            found = answers.files(pid, wanted)
        return _unknown("Dataset", pid) if found is None else found

    def count_files(self, request: Request, pid: str, where_text: WhereText = None) -> Any:
        """How many files of a dataset the caller may read."""
        where, _ = _counted(request)
        with self._answers(request) as answers:
            found = answers.count_files(pid, where)
        return _unknown("Dataset", pid) if found is None else {"count": found}

    def documents(self, request: Request, filter_text: FilterText = None) -> Any:
        """Proposals that the caller may know of."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            return answers.documents(wanted)

    def count_documents(
        self, request: Request, where_text: WhereText = None, filter_text: FilterText = None
    ) -> Any:
        """How many proposals match."""
        where, include = _counted(request)
        with self._answers(request) as answers:
            return {"count": answers.count_documents(where, include)}

    def document(self, request: Request, pid: str, filter_text: FilterText = None) -> Any:
        """One proposal."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            return answers.document(pid, wanted) or _unknown("Document", pid)

    def instruments(self, request: Request, filter_text: FilterText = None) -> Any:
        """Instruments of which the caller may know a dataset."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            return answers.instruments(wanted)

    def count_instruments(
        self, request: Request, where_text: WhereText = None, filter_text: FilterText = None
    ) -> Any:
        """How many instruments match."""
        where, include = _counted(request)
        with self._answers(request) as answers:
            return {"count": answers.count_instruments(where, include)}

    def instrument(self, request: Request, pid: str, filter_text: FilterText = None) -> Any:
        """One instrument."""
        wanted = _filter(request)
        with self._answers(request) as answers:
            return answers.instrument(pid, wanted) or _unknown("Instrument", pid)

    @contextmanager
    def _answers(self, request: Request) -> Iterator[Answers]:
        with self._desk.reading(self._resolve(request)) as catalogue:
            yield Answers(catalogue)


class _SearchRoute(APIRoute):
    """Turns a filter that we do not understand into a 400 that says where."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler behind the translation."""
        handle = super().get_route_handler()

        async def handle_with_reason(request: Request) -> Response:
            try:
                return await handle(request)
            except FilterInvalid as error:
                return _error(400, "BadFilter", str(error), "INVALID_FILTER")

        return handle_with_reason


def _filter(request: Request) -> SearchFilter:
    return parse_filter(told_in_brackets(request.query_params.multi_items(), "filter"))


def _counted(request: Request) -> tuple[Group | None, tuple[Include, ...]]:
    """What to count: a `where` as the standard has it, and what a `filter` demands beside it."""
    told = _filter(request)
    where = parse_where(told_in_brackets(request.query_params.multi_items(), "where"))
    both = tuple(group for group in (where, told.where) if group is not None)
    return (Group("and", both) if both else None), told.include


def _unknown(kind: str, pid: str) -> JSONResponse:
    """The same words for what does not exist and for what the caller may not know of."""
    return _error(404, "Error", f'Unknown "{kind}" id "{pid[:MAX_PID]}".', "MODEL_NOT_FOUND")


def _error(status: int, name: str, message: str, code: str) -> JSONResponse:
    body = {"statusCode": status, "name": name, "message": message, "code": code}
    return JSONResponse({"error": body}, status_code=status)
