"""What the web service publishes, made from the configuration: one object for the app and the commands."""

from __future__ import annotations

import logging
import time

from fastapi import APIRouter
from sqlalchemy import func, select

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.publishing.doi_registry import DoiRegistry
from beamhub_catalogue.publishing.minting import Minter
from beamhub_catalogue.publishing.oai_api import OaiApi
from beamhub_catalogue.publishing.oai_provider import OaiProvider
from beamhub_catalogue.publishing.oai_tokens import TokenSigner
from beamhub_catalogue.publishing.places import PublicPlaces, public_places
from beamhub_catalogue.publishing.publisher import Publisher, PublishingTaken
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.record_building import RecordBuilder
from beamhub_catalogue.publishing.sources import is_own
from beamhub_catalogue.texts import is_storable
from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import Principal

log = logging.getLogger(__name__)

PAGES_OF_SITEMAP = 10_000
"""Source: the sitemaps protocol allows 50,000 addresses and 50 MB."""


class Publication:
    """Records of datasets and documents, and the provider that tells harvesters of them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.places: PublicPlaces = public_places(desk.config)
        self.config = desk.config.catalogue.publication
        self._publisher = Publisher(desk, self.places)
        self._due_at: float | None = None

    def oai_router(self, secret: str) -> APIRouter:
        """`/oai`; nothing where the configuration has no section `publication`.

        `secret` signs resumption tokens: all replicas have to have the same.
        """
        if self.config is None:
            return APIRouter()
        provider = OaiProvider(self._desk, self.config, self.places, TokenSigner(secret))
        return OaiApi(provider, self.config.oai.max_at_once).router()

    def publish(self) -> int:
        """Note what changed of the public's view; how many records got a new datestamp."""
        return self._publisher.publish() if self.config is not None else 0

    def publish_when_due(self) -> None:
        """The same, when the configured interval went by."""
        now = time.monotonic()
        if self.config is None or (self._due_at is not None and now < self._due_at):
            return
        self._due_at = now + self.config.oai.publish_interval_s
        try:
            n_changed = self.publish()
        except PublishingTaken:
            return
        if n_changed:
            log.info("published", extra={"records": n_changed})

    def minter(self) -> Minter:
        """What gives DOIs.

        Raises
        ------
        ConfigInvalid
            Where the configuration names no account at DataCite, or its password cannot be read.
        """
        if self.config is None or self.config.doi is None:
            reason = "catalogue.publication.doi: is absent; docs/operate/publishing.md says what it holds"
            raise ConfigInvalid("the configuration", (reason,))
        return Minter(self._desk, self.places, DoiRegistry(self.config.doi))

    def dataset(self, principal: Principal | None, pid: str) -> Record | None:
        """A dataset as a reader may see it, with its files; None where there is none, or none to know of."""
        if not is_storable(pid):
            return None
        with self._desk.reading(principal) as catalogue:
            builder = RecordBuilder(catalogue, self._desk.config, self.places)
            return builder.datasets([pid], with_files=True).get(pid)

    def document(self, principal: Principal | None, proposal: str) -> Record | None:
        """A proposal's document as a reader may see it; None where there is none, or none to know of."""
        if not is_storable(proposal):
            return None
        with self._desk.reading(principal) as catalogue:
            builder = RecordBuilder(catalogue, self._desk.config, self.places)
            return builder.documents([proposal]).get(proposal)

    def landing_pages(self, page: int) -> list[str]:
        """Addresses of the landing pages that everybody may see: one page of them, from 1."""
        with self._desk.reading(None) as catalogue:
            known = catalogue.guard.datasets(DatasetRow.pid).where(is_own(self._desk.config))
            ordered = (
                known.order_by(DatasetRow.id).limit(PAGES_OF_SITEMAP).offset((page - 1) * PAGES_OF_SITEMAP)
            )
            return [self.places.dataset(pid) for pid in catalogue.session.scalars(ordered)]

    def n_sitemaps(self) -> int:
        """How many pages of landing pages there are, at least one."""
        with self._desk.reading(None) as catalogue:
            known = catalogue.guard.datasets(DatasetRow.id).where(is_own(self._desk.config))
            n_known = catalogue.session.scalar(select(func.count()).select_from(known.subquery())) or 0
        return max(-(-n_known // PAGES_OF_SITEMAP), 1)
