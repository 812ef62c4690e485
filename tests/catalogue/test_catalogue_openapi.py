"""The internal API keeps to its document: what it takes, what it answers, what asking twice does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from httpx import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sqlalchemy import func, select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.internal_openapi import StaleDocument, build_document, run_openapi
from beamhub_catalogue.models import AuditRow
from beamhub_core.command import build_parser, main
from beamhub_core.config.services import WebClientConfig
from beamhub_core.session import SessionPlan
from catalogue.catalogue_api_parts import RAW, Api, copy_of, open_api
from catalogue.catalogue_parts import COLIN, INES, Facility, session_plan, write_product
from catalogue.openapi_bodies import bodies

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = build_document()
OPERATIONS = [(method, path) for path, all_of in DOCUMENT["paths"].items() for method in all_of]
SCOPES = get_args(get_args(WebClientConfig.model_fields["scopes"].annotation)[0])
MAX_ANSWER_BYTES = 1_000_000
NAMES = {
    "account": [INES.account, "u-" + "a" * 26, "ines", "%00"],
    "plan_id": ["0" * 32, "1".rjust(32, "0"), "x"],
    "act_id": ["0" * 32, "a" * 32, "x"],
    "proposal": ["MA-2", "ZZ-9", "x" * 300, "%00"],
}


@pytest.fixture(scope="module")
def facility(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Facility:
    return copy_of(prepared, tmp_path_factory.mktemp("stocked"))


@pytest.fixture(scope="module")
def service(facility: Facility) -> Iterator[CatalogueService]:
    config = facility.config()
    client = config.web.clients[0].model_copy(update={"scopes": SCOPES})
    web = config.web.model_copy(update={"clients": (client,)})
    made = CatalogueService(config.model_copy(update={"web": web}), facility.clock, facility.wall_clock)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def api(service: CatalogueService) -> Iterator[Api]:
    with open_api(service) as made:
        made.push(INES, COLIN)
        yield made


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def check_answer(method: str, path: str, answer: Response) -> None:
    """The status is documented, and the answer has the shape that is documented for it."""
    status, content = answer.status_code, answer.content
    assert status < 500
    assert len(content) <= MAX_ANSWER_BYTES
    told = operation(method, path)["responses"].get(str(status))
    assert told is not None, f"{method} {path} answers {status}, which is not documented: {content[:300]!r}"
    schema = told.get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        assert content == b""
    else:
        Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(answer.json())


def test_the_committed_document_is_what_the_routes_say() -> None:
    assert main(["catalogue", "openapi", "--check", "--root", str(ROOT)]) == 0


def test_a_stale_document_is_named_and_can_be_written(tmp_path: Path) -> None:
    arguments = build_parser().parse_args(["catalogue", "openapi", "--check", "--root", str(tmp_path)])
    with pytest.raises(StaleDocument, match="catalogue openapi"):
        run_openapi(arguments)
    assert main(["catalogue", "openapi", "--root", str(tmp_path)]) == 0
    assert run_openapi(arguments) == 0


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_route_says_its_scope_its_answers_and_whether_it_may_be_asked_again(
    method: str, path: str
) -> None:
    told = operation(method, path)
    assert told["x-idempotent"] in (True, False)
    assert any(int(status) < 300 for status in told["responses"])
    for status, answer in told["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        assert (schema is None) == (status == "204"), (status, answer)
        assert schema != {}
    if path in ("/internal/health", "/internal/products") or path.startswith("/internal/session/"):
        assert "x-scope" not in told
    else:
        assert told["x-scope"] in SCOPES
        assert told["security"] == [{"platform_token": []}]
        assert {"401", "403", "413", "422"} <= set(told["responses"])


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_sent_the_answer_is_a_documented_one(
    api: Api, method: str, path: str, data: st.DataObject
) -> None:
    told = operation(method, path)
    schema = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    address = path.removeprefix("/internal")
    for name, values in ((name, values) for name, values in NAMES.items() if f"{{{name}}}" in address):
        address = address.replace(f"{{{name}}}", data.draw(st.sampled_from(values)))
    address += data.draw(st.sampled_from(["", "?live=true", "?live=no", "?account=x"]))
    sent: dict[str, Any] = {}
    if schema is not None:  # written here: half a character has a JSON form that a client's encoder refuses
        sent = {"content": json.dumps(data.draw(bodies(schema, DOCUMENT)))}
    answer = api.ask(method.upper(), address, headers={"Content-Type": "application/json"}, **sent)
    check_answer(method, path, answer)


def test_answers_with_something_in_them_have_the_documented_shape(api: Api, facility: Facility) -> None:
    plan = api.running(session_plan(facility, COLIN, number=77))
    act = {"id": "7" * 32, "proposal": "MA-2", "kind": "withdrawal", "pid": RAW, "reason": "a mistake"}
    for method, path, address, body in (
        ("get", "/internal/sessions", "/sessions?live=true", None),
        ("get", "/internal/sessions/{plan_id}", f"/sessions/{plan.id}", None),
        ("post", "/internal/recheck", "/recheck", None),
        ("post", "/internal/harvest", "/harvest", {}),
        ("post", "/internal/grants", "/grants", {"account": COLIN.account, "datasets": [RAW]}),
        ("post", "/internal/grants", "/grants", {"account": COLIN.account, "datasets": ["no"]}),
        ("put", "/internal/acts/{act_id}", f"/acts/{act['id']}", {"act": act}),
        ("get", "/internal/proposals/{proposal}/acts", "/proposals/MA-2/acts", None),
        ("delete", "/internal/acts/{act_id}", f"/acts/{act['id']}", None),
        ("get", "/internal/health", "/health", None),
    ):
        check_answer(method, path, api.ask(method.upper(), address, body))


def n_audited(service: CatalogueService, kind: str) -> int:
    with service.database.reading() as session:
        return session.scalar(select(func.count()).select_from(AuditRow).where(AuditRow.kind == kind)) or 0


def test_telling_a_plan_and_its_states_again_changes_nothing(
    api: Api, facility: Facility, service: CatalogueService
) -> None:
    plan: SessionPlan = session_plan(facility, INES, number=5)
    before = n_audited(service, "plan"), n_audited(service, "state")
    assert [api.store(plan).status_code for _ in range(2)] == [201, 200]
    for state in ("running", "ended"):
        records = []
        for _ in range(2):
            assert api.update(plan, state=state).status_code == 204
            records.append(api.record(plan))
        assert records[0] == records[1]
    assert api.store(plan).status_code == 200
    assert api.record(plan)["state"] == "ended"
    assert (n_audited(service, "plan"), n_audited(service, "state")) == (before[0] + 1, before[1] + 2)
    other = session_plan(facility, INES, number=5, profile="other")
    assert api.store(other).status_code == 409


def test_telling_an_act_again_or_revoking_it_again_changes_nothing(
    api: Api, service: CatalogueService
) -> None:
    act = {"id": "9" * 32, "proposal": "MA-2", "kind": "withdrawal", "reason": "a mistake"}
    before = n_audited(service, "act"), n_audited(service, "act_revoked")
    assert [api.ask("PUT", f"/acts/{act['id']}", {"act": act}).status_code for _ in range(2)] == [201, 200]
    assert api.ask("PUT", f"/acts/{act['id']}", {"act": act | {"reason": "another"}}).status_code == 409
    kept = []
    for _ in range(2):
        assert api.ask("DELETE", f"/acts/{act['id']}").status_code == 204
        kept.append(api.ask("GET", "/proposals/MA-2/acts").json())
    assert kept[0] == kept[1]
    after = n_audited(service, "act"), n_audited(service, "act_revoked")
    assert after == (before[0] + 1, before[1] + 1)


def test_asking_again_for_verdicts_scans_and_grants_answers_the_same(api: Api, facility: Facility) -> None:
    api.running(session_plan(facility, COLIN, number=6))
    for path, body in (
        ("/recheck", None),
        ("/harvest", {}),
        ("/grants", {"account": COLIN.account, "datasets": [RAW]}),
    ):
        first, second = (api.ask("POST", path, body) for _ in range(2))
        assert first.status_code == 200
        assert first.json() == second.json()


def test_telling_of_a_principal_or_a_product_again_changes_nothing(
    api: Api, facility: Facility, service: CatalogueService
) -> None:
    (facility.pool / "MA-2" / "processed").mkdir(exist_ok=True)
    api.push(INES, INES)
    token = "session-token-of-products-0123456789"
    api.running(session_plan(facility, INES, number=8), token)
    path = write_product(facility.pool / "MA-2/processed/twice.h5", RAW)
    first, second = (api.product(path, token) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    ended = n_audited(service, "account_ended")
    nobody = "u-" + "b" * 26
    assert [api.ask("DELETE", f"/principals/{nobody}").status_code for _ in range(2)] == [204, 204]
    assert n_audited(service, "account_ended") == ended
