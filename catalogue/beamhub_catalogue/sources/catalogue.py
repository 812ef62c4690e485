"""What every adapter of another catalogue promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from beamhub_catalogue.told import Gone, ToldDataset
from beamhub_core.errors import BeamhubError

Cursor = dict[str, Any]
"""How far an adapter read, in its own words; empty: from the beginning."""
MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, what is gone, what could not be understood, and the cursor that goes on behind them."""

    records: tuple[ToldDataset, ...]
    cursor: Cursor
    gone: tuple[Gone, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()


class CatalogueBroken(BeamhubError):
    """Another catalogue does not answer as it must; what was stored before stays. Try again later."""

    exit_code = 6

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source, self.reason = source, reason[:MAX_REASON]

    def __str__(self) -> str:
        return f"The catalogue {self.source!r} cannot be read: {self.reason}."


class CatalogueSource(Protocol):
    """Another catalogue whose datasets are mirrored here.

    Reading is bounded page by page; a reader that stops after any page goes on from that page's cursor.
    The same record may come twice (its change may fall between two pages), but none is left out.
    """

    @property
    def name(self) -> str:
        """As in the configuration."""

    def changes(self, cursor: Cursor) -> Iterator[Page]:
        """Pages of what changed since a cursor, the oldest change first.

        Raises
        ------
        CatalogueBroken
        """

    def ids(self) -> Iterator[str]:
        """The source ids of everything that is there now: what is not among them is gone.

        Raises
        ------
        CatalogueBroken
        """

    def write_product(self, product: dict[str, Any]) -> str:
        """Tell the catalogue of a product of ours (as `write_back` says it); its id there.

        Raises
        ------
        CatalogueBroken
            Also where the catalogue takes none.
        """

    def close(self) -> None:
        """End connections and sessions."""
