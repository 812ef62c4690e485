"""Texts that no database keeps: answered alike by both, and never with a 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import StatementError

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import LostEntitlementRow
from beamhub_core.identity import Entitlement
from catalogue.catalogue_api_parts import Api, open_api
from catalogue.catalogue_parts import INES, NAMESPACE, NOW, Facility, session_plan


@pytest.fixture
def api(service: CatalogueService) -> Iterator[Api]:
    """The internal API."""
    with open_api(service) as made:
        yield made


@pytest.mark.parametrize(
    "changes",
    [
        {"server_name": "s" * 256},
        {"server_name": "a\0b"},
        {"account": "u" * 81},
    ],
)
def test_a_plan_with_such_a_text_is_refused(api: Api, facility: Facility, changes: dict[str, Any]) -> None:
    assert api.store(session_plan(facility, INES, **changes)).status_code == 422
    assert api.store(session_plan(facility, INES)).status_code == 201


@pytest.mark.parametrize("changes", [{"token_digest": "0" * 65}, {"reason": "a\0b"}, {"backend_id": "\0"}])
def test_an_update_with_such_a_text_is_refused_and_changes_nothing(
    api: Api, facility: Facility, changes: dict[str, str]
) -> None:
    plan = session_plan(facility, INES)
    api.store(plan)
    before = api.record(plan)
    answer = api.update(plan, state="running", **changes)
    assert answer.status_code == 422
    assert "no database keeps" in answer.text
    assert api.record(plan) == before


@pytest.mark.parametrize("odd", ["a\0b", "p" * 201, "p" * 5_000])
def test_an_entitlement_that_names_no_proposal_is_passed_over(api: Api, odd: str) -> None:
    named = (Entitlement(namespace=NAMESPACE, group="proposals", subgroups=(odd,), role="member"),)
    api.push(INES.model_copy(update={"entitlements": named}) if odd.isprintable() else INES)
    api.push(INES)


def test_questions_about_such_names_are_answered_as_about_unknown_ones(api: Api) -> None:
    api.push(INES)
    assert api.grants(INES, "t:a\0b").status_code == api.grants(INES, "t:never").status_code == 404
    asked = {"account": "u-\0", "datasets": ["t:never"]}
    assert api.ask("POST", "/grants", asked).status_code == 422


def test_no_row_keeps_such_a_text(service: CatalogueService) -> None:
    for odd in ({"account": "k" * 41}, {"proposal": "a\0b"}, {"proposal": "\ud800"}):
        row = {"account": "u-1", "proposal": "MA-2", "lost_at": NOW} | odd
        takes = pytest.raises(StatementError, match=r"lost_entitlements\.\w+ takes")
        with takes, service.database.writing() as session:
            session.add(LostEntitlementRow(**row))
