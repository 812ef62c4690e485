"""What the web service tells a scraper, and whom it tells nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.metrics import ASKED, PHASES, WebMetrics
from beamhub_catalogue.metrics_route import count_all
from catalogue.catalogue_api_parts import NOBODY, Api, open_api
from catalogue.catalogue_parts import INES, TOKENS, Facility, session_plan

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def stage(folder: Path) -> Iterator[tuple[Facility, CatalogueService, Api]]:
    facility = Facility(folder)
    facility.prepare()
    config = facility.config()
    reader = next(one for one in config.web.clients if one.name == "reader")
    clients = tuple(one for one in config.web.clients if one.name != "reader")
    scraper = reader.model_copy(update={"scopes": ("metrics:read",)})
    web = config.web.model_copy(update={"clients": (*clients, scraper)})
    service = CatalogueService(config.model_copy(update={"web": web}), facility.clock, facility.wall_clock)
    try:
        with open_api(service) as api:
            yield facility, service, api
    finally:
        service.stop()


def scrape(api: Api, token: str | None = TOKENS["reader"]) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = api.portal.call(lambda: api.client.get("/metrics", headers=headers))
    return answer.status_code, answer.text


def samples(text: str) -> Samples:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_only_a_client_with_the_scope_reads_them(tmp_path: Path) -> None:
    with stage(tmp_path) as (_, _, api):
        assert scrape(api, None)[0] == 401
        assert scrape(api, "x" * 32)[0] == 401
        assert scrape(api, TOKENS["hub"])[0] == 403
        assert scrape(api)[0] == 200


def test_they_count_sessions_refusals_and_phases_and_name_nobody(tmp_path: Path) -> None:
    with stage(tmp_path) as (facility, _, api):
        assert api.ask("POST", "/grants", {"account": NOBODY, "datasets": ["secret-pid"]}).status_code == 403
        api.push(INES)
        plan = api.running(session_plan(facility, INES, processed=None))
        for _ in range(2):  # a caller whose connection broke asks again
            api.ask("POST", f"/sessions/{plan.id}/update", {"phases_s": {"ready": 1.5, "unheard-of": 3.0}})
        text = scrape(api)[1]
        found = samples(text)
        assert of(found, "beamhub_web_sessions", state="running", place="here") == 1
        assert of(found, "beamhub_web_place_capacity", place="here") >= 1
        assert of(found, "beamhub_web_refusals_total", asked="grants", code="not_a_member") == 1
        assert of(found, "beamhub_web_start_phase_seconds_count", phase="ready") == 1
        assert of(found, "beamhub_web_grants_seconds_count") == 1
        assert of(found, "beamhub_web_database_up") == 1
        for secret in (INES.account, NOBODY, plan.id, plan.server_name, "secret-pid", "unheard-of"):
            assert secret not in text


def test_no_word_from_outside_becomes_a_label() -> None:
    metrics = WebMetrics()
    for i in range(500):
        metrics.refused(f"route-{i}", f"code-{i}")
        metrics.phase(f"phase-{i}", 1.0)
    found = samples(metrics.text().decode())
    refusals = [labels for name, labels in found if name == "beamhub_web_refusals_total"]
    assert refusals == [frozenset({("asked", "other"), ("code", "other")})]
    assert len({labels for name, labels in found if name.startswith("beamhub_web_start_phase")}) < 30 * len(
        PHASES
    )
    assert "prepare" in ASKED


def test_without_the_database_the_rest_is_still_told(tmp_path: Path) -> None:
    with stage(tmp_path) as (_, service, api):
        service.desk.metrics.refused("plan", "full")
        for table in ("queue_tickets", "session_mounts", "session_proposals", "sessions"):
            with service.database.writing() as session:
                session.connection().exec_driver_sql(f"drop table {table} " + _cascade(service))
        assert count_all(service.desk) is None
        status, text = scrape(api)
        assert status == 200
        assert of(samples(text), "beamhub_web_database_up") == 0
        assert of(samples(text), "beamhub_web_refusals_total", asked="plan", code="full") == 1


def _cascade(service: CatalogueService) -> str:
    return "cascade" if service.config.web.database_url.startswith("postgresql") else ""
