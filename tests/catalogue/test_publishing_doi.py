"""DOIs: given to what the public may know of, kept true, hidden at the end, and never given twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.publishing.doi_registry import DoiRefused, doi_for
from beamhub_catalogue.publishing.minting import NotCitable
from beamhub_core.errors import Unavailable
from catalogue.catalogue_reader_parts import HIDDEN  # the folder of these tests, not the room
from catalogue.catalogue_shell_parts import Shell  # likewise
from catalogue.datacite_registry import PASSWORD, PREFIX, USER, Registry, running_registry  # likewise
from catalogue.publishing_parts import PUBLICATION, Published, publishing  # likewise


@dataclass
class Minting:
    """A facility that publishes, beside a registry of DOIs."""

    published: Published
    registry: Registry


@pytest.fixture
def minting(tmp_path: Path) -> Iterator[Minting]:
    """A facility with an account at the registry."""
    with running_registry() as registry:
        secret = tmp_path / "datacite-password"
        secret.write_text(PASSWORD + "\n")
        account = {"prefix": PREFIX, "url": registry.url, "user": USER, "password_file": secret}
        with publishing(tmp_path, publication=PUBLICATION | {"doi": account}) as published:
            yield Minting(published, registry)


def test_a_doi_goes_from_draft_to_findable_is_renewed_and_hidden(
    minting: Minting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    published, registry = minting.published, minting.registry
    publication, clock = published.service.publication, published.facility.clock
    minter = publication.minter()
    draft = minter.mint("dataset", "t:OP-1:a", draft=True)
    assert draft.state == "draft"
    record = publication.dataset(None, "t:OP-1:a")
    assert record is not None
    assert record.doi is None, "a draft leads nowhere, so no page shows it"
    clock.now += timedelta(seconds=1)
    minted = minter.mint("dataset", "t:OP-1:a")
    assert (minted.doi, minted.state) == (draft.doi, "findable")
    held = registry.dois[minted.doi]
    assert held["url"].endswith("/datasets/t:OP-1:a")
    assert minter.mint("dataset", "t:OP-1:a") == minted
    publication.publish()
    assert list(minter.renew()) == []
    clock.now += timedelta(seconds=1)
    change(published, title="A better title")
    publication.publish()
    assert [one.doi for one in minter.renew()] == [minted.doi]
    assert registry.dois[minted.doi]["titles"] == [{"title": "A better title"}]
    clock.now += timedelta(seconds=1)
    change(published, withdrawn=True)
    publication.publish()
    assert [one.state for one in minter.renew()] == ["registered"]
    assert list(minter.renew()) == []
    assert PASSWORD not in caplog.text


def change(published: Published, **facts: object) -> None:
    """Change the dataset that has a DOI."""
    with published.service.database.writing() as session:
        row = session.query(DatasetRow).filter_by(pid="t:OP-1:a").one()
        for name, value in facts.items():
            setattr(row, name, value)
        row.changed_at = published.facility.clock.now


def test_a_proposals_document_gets_a_doi_that_its_datasets_record_names(minting: Minting) -> None:
    minter = minting.published.service.publication.minter()
    minted = minter.mint("document", "OP-1")
    assert minting.registry.dois[minted.doi]["types"]["resourceTypeGeneral"] == "Collection"
    record = minting.published.service.publication.document(None, "OP-1")
    assert record is not None
    assert record.doi == minted.doi


def test_nothing_hidden_withdrawn_or_of_another_catalogue_gets_a_doi(minting: Minting) -> None:
    published = minting.published
    minter = published.service.publication.minter()
    with published.service.database.writing() as session:
        session.query(DatasetRow).filter_by(pid="t:OP-1:b").one().source = "icat"
    for pid in (*sorted(HIDDEN), "t:OP-1:gone", "t:OP-1:b", "nothing"):
        with pytest.raises(NotCitable, match="gets no DOI") as refused:
            minter.mint("dataset", pid)
        assert refused.value.pid == pid
    assert minting.registry.dois == {}


def test_a_refusal_or_silence_of_the_registry_stores_nothing(minting: Minting) -> None:
    published, registry = minting.published, minting.registry
    minter = published.service.publication.minter()
    registry.refusal = "is not your prefix"
    with pytest.raises(DoiRefused, match="doi is not your prefix"):
        minter.mint("dataset", "t:OP-1:a")
    registry.broken = True
    with pytest.raises(Unavailable, match="DataCite"):
        minter.mint("dataset", "t:OP-1:b")
    with published.service.database.reading() as session:
        assert {row.doi for row in session.query(DatasetRow)} == {None}


def test_the_command_mints_renews_and_says_how_fair_a_record_is(
    minting: Minting, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(minting.published.facility, capsys)
    code, minted = shell.json("catalogue", "doi", "mint", "t:OP-1:a")
    assert (code, minted["state"]) == (0, "findable")
    assert shell.json("catalogue", "doi", "renew")[0] == 0
    code, fair = shell.json("catalogue", "fair", "t:OP-1:a")
    assert (code, fair["out_of"], len(fair["metrics"])) == (0, 26, 17)
    assert fair["points"] >= 20  # over http, as here, four points fewer than over https
    assert shell.run("catalogue", "fair", "t:TO-3:a")[0] == 3
    code, _, words = shell.run("catalogue", "doi", "mint", "t:TO-3:a")
    assert code == 4
    assert "gets no DOI" in words


def test_two_things_never_share_a_doi_and_one_always_has_the_same() -> None:
    names = [(kind, pid) for kind in ("dataset", "document") for pid in ("a", "b", "a\0b")]
    dois = {doi_for(PREFIX, "test", *name) for name in names}
    assert len(dois) == len(names)
    assert doi_for(PREFIX, "test", "dataset", "a") in dois
    assert json.dumps(sorted(dois)).isascii()
