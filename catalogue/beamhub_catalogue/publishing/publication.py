"""What the web service publishes, made from the configuration: one object for the app and the commands."""

from __future__ import annotations

import logging
import time

from fastapi import APIRouter

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.publishing.oai_api import OaiApi
from beamhub_catalogue.publishing.oai_provider import OaiProvider
from beamhub_catalogue.publishing.oai_tokens import TokenSigner
from beamhub_catalogue.publishing.places import PublicPlaces, public_places
from beamhub_catalogue.publishing.publisher import Publisher, PublishingTaken
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.record_building import RecordBuilder
from beamhub_catalogue.publishing.sources import own_sources
from beamhub_catalogue.queries import equals
from beamhub_core.identity import Principal

log = logging.getLogger(__name__)


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

    def dataset(self, principal: Principal | None, pid: str) -> Record | None:
        """A dataset as a reader may see it, with its files; None where there is none, or none to know of.

        None as well for a dataset of a mirrored catalogue, which is the one to describe it.
        """
        with self._desk.reading(principal) as catalogue:
            query = catalogue.guard.datasets(DatasetRow.source).where(equals(DatasetRow.pid, pid))
            if catalogue.session.scalar(query) not in own_sources(self._desk.config):
                return None
            builder = RecordBuilder(catalogue, self._desk.config, self.places)
            return builder.datasets([pid], with_files=True).get(pid)

    def document(self, principal: Principal | None, proposal: str) -> Record | None:
        """A proposal's document as a reader may see it; None where there is none, or none to know of."""
        with self._desk.reading(principal) as catalogue:
            builder = RecordBuilder(catalogue, self._desk.config, self.places)
            return builder.documents([proposal]).get(proposal)
