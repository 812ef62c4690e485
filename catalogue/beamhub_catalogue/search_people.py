"""Members, persons and affiliations of the search API: user offices' teams and author lists as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import BigInteger, Integer, String, Text, cast, literal, null, select, union_all

from beamhub_catalogue.models import AffiliationRow, AuthorRow, AuthorshipRow, MemberRow
from beamhub_catalogue.search_items import affiliation_item, member_item, person_item
from beamhub_catalogue.search_sql import Entity, Field, Relation


def people() -> Any:
    """Who stands in which document or dataset, in which role; of a user office's rows the names alone."""
    absent = {
        name: cast(null(), Text()).label(name)
        for name in (
            "first_name",
            "last_name",
            "orcid",
            "researcher_id",
            "affiliation",
            "ror",
            "address",
            "city",
            "country",
        )
    }
    # One place for each name and role, however many offices tell of it.
    team = (
        select(
            MemberRow.proposal.label("document"),
            cast(null(), BigInteger()).label("dataset_id"),
            cast(literal(0), Integer()).label("position"),
            cast(MemberRow.role, String()).label("role"),
            MemberRow.name.label("full_name"),
            *absent.values(),
        )
        .where(MemberRow.removed_at.is_(None), MemberRow.name != "")
        .distinct()
    )
    authors = (
        select(
            AuthorshipRow.document,
            AuthorshipRow.dataset_id,
            AuthorshipRow.position,
            AuthorshipRow.role,
            AuthorRow.full_name,
            AuthorRow.first_name,
            AuthorRow.last_name,
            AuthorRow.orcid,
            AuthorRow.researcher_id,
            AffiliationRow.name.label("affiliation"),
            AffiliationRow.ror,
            AffiliationRow.address,
            AffiliationRow.city,
            AffiliationRow.country,
        )
        .select_from(AuthorshipRow)
        .join(AuthorRow, AuthorRow.id == AuthorshipRow.author_id)
        .outerjoin(AffiliationRow, AffiliationRow.id == AuthorshipRow.affiliation_id)
    )
    return union_all(team, authors).subquery("people_of_records")


def member_entity(table: Any) -> Entity:
    """Places; person and affiliation are of the same row, and sent along always."""
    owner = (table.c.document.label("owner"),)
    relations = {
        "person": lambda: Relation("Person", many=False, inline=person_item),
        "affiliation": lambda: Relation("Affiliation", many=False, inline=_affiliation),
        "affiliations": lambda: Relation("Affiliation", inline=_affiliation),
    }
    return _entity("Member", {"role": Field(table.c.role, "text")}, table, member_item, relations, owner)


def person_entity(table: Any) -> Entity:
    """Persons."""
    c = table.c
    fields = {
        "fullName": Field(c.full_name, "text"),
        "firstName": Field(c.first_name, "text"),
        "lastName": Field(c.last_name, "text"),
        "orcid": Field(c.orcid, "text"),
        "researcherId": Field(c.researcher_id, "text"),
    }
    return _entity("Person", fields, table, person_item)


def affiliation_entity(table: Any) -> Entity:
    """Affiliations."""
    c = table.c
    fields = {
        "name": Field(c.affiliation, "text"),
        "pid": Field(c.ror, "text"),
        "address": Field(c.address, "text"),
        "city": Field(c.city, "text"),
        "country": Field(c.country, "text"),
    }
    return _entity("Affiliation", fields, table, affiliation_item)


def _affiliation(row: Any) -> dict[str, Any] | None:
    return affiliation_item(row) or None


def _entity(
    name: str,
    fields: dict[str, Field],
    table: Any,
    build: Any,
    relations: Mapping[str, Callable[[], Relation]] | None = None,
    more: tuple[Any, ...] = (),
) -> Entity:
    return Entity(
        name,
        fields,
        tuple(field.column for field in list(fields.values())[:1]),
        lambda *columns: select(*columns).select_from(table),
        (*table.c, *more),
        (table.c.position, table.c.full_name, table.c.role),
        lambda row, include: build(row),
        relations or {},
    )
