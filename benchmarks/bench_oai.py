"""A full harvest over OAI-PMH: records a second in each format, and whether the last page costs as the first.

Peer: the rows of a page alone, by LIMIT and OFFSET, as a provider without keysets asks for them.
The harvester is in this process: no network, no second core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lxml import etree
from rights_facility import NOW, POLICY, fill
from sqlalchemy import select

from beamhub_catalogue.models import OaiRecordRow
from beamhub_catalogue.publishing.oai_provider import OaiProvider
from beamhub_catalogue.publishing.oai_tokens import TokenSigner
from beamhub_catalogue.service import CatalogueService

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from catalogue.catalogue_parts import Facility  # noqa: E402  # the folder of tests
from postgresql_server import databases  # noqa: E402

OAI = "{http://www.openarchives.org/OAI/2.0/}"
PAGE = 200
PUBLICATION = {
    "admin_email": "data@facility.example",
    "oai": {"namespace": "facility.example", "page_size": PAGE},
}
EDGE_PAGES = 20


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="*", default=["oai_dc", "oai_datacite"])
    parser.add_argument("--sqlite-only", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/bench_oai.py", *sys.argv[1:]]),
        "datasets": options.datasets,
        "page": PAGE,
    }
    for name in ("sqlite",) if options.sqlite_only else ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory(prefix="beamhub-bench-") as folder:
            figures[name] = measure(Path(folder), options, on_sqlite=name == "sqlite")
            show(name, figures[name])
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, options: argparse.Namespace, *, on_sqlite: bool) -> dict[str, Any]:
    """Fill a catalogue, publish it and harvest all of it."""
    facility = Facility(folder, changes={"publication": PUBLICATION}, on_sqlite=on_sqlite)
    facility.prepare()
    facility.write_document({**POLICY.model_dump(mode="json"), "version": "bench"})
    facility.write_office((), ())
    service = facility.service()
    try:
        fill(service.database, options.datasets, 0)
        began = time.perf_counter()
        n_records = service.publication.publish()
        published = time.perf_counter() - began
        facility.clock.now = NOW.replace(second=30)
        config = service.publication.config
        assert config is not None
        signer = TokenSigner("signs tokens of a benchmark")
        provider = OaiProvider(service.desk, config, service.publication.places, signer)
        found: dict[str, Any] = {
            "records": n_records,
            "published_s": round(published, 1),
            "unchanged_look_ms": milliseconds(service.publication.publish),
            **{prefix: harvest(provider, prefix, n_records) for prefix in options.formats},
            "peer": offsets(service, n_records),
        }
        found["resident_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return found
    finally:
        service.stop()
        if not on_sqlite:
            databases.close()


def harvest(provider: OaiProvider, prefix: str, n_records: int) -> dict[str, float]:
    """Follow a whole list; ends with an error where a record is missing or doubled."""
    pages: list[float] = []
    seen: set[str] = set()
    pairs = [("verb", "ListRecords"), ("metadataPrefix", prefix)]
    while True:
        began = time.perf_counter()
        answer = provider.answer(pairs)
        pages.append(time.perf_counter() - began)
        root = etree.fromstring(answer)
        names = [one.findtext(f"{OAI}identifier") for one in root.iter(f"{OAI}header")]
        assert not seen.intersection(names), "a record came twice"
        seen.update(str(name) for name in names)
        tokens = [one.text for one in root.iter(f"{OAI}resumptionToken") if one.text]
        if not tokens:
            break
        pairs = [("verb", "ListRecords"), ("resumptionToken", tokens[0])]
    assert len(seen) == n_records, (len(seen), n_records)
    full = pages[1:-1] or pages  # the first counts the list, the last is short
    return {
        "records_per_s": round(n_records / sum(pages)),
        "count_and_first_page_ms": round(pages[0] * 1e3, 1),
        "first_pages_ms": round(statistics.median(full[:EDGE_PAGES]) * 1e3, 1),
        "last_pages_ms": round(statistics.median(full[-EDGE_PAGES:]) * 1e3, 1),
    }


def offsets(service: CatalogueService, n_records: int) -> dict[str, float]:
    """Pages of bare rows by LIMIT and OFFSET, and the limit of a page by the keyset."""
    ordered = select(OaiRecordRow).order_by(OaiRecordRow.datestamp, OaiRecordRow.id).limit(PAGE)

    def page(offset: int) -> float:
        def ask() -> None:
            with service.database.reading() as session:
                session.scalars(ordered.offset(offset)).all()

        return milliseconds(ask)

    return {"first_page_ms": page(0), "last_page_ms": page(max(n_records - PAGE, 0))}


def milliseconds(do: Callable[[], Any]) -> float:
    """The median of five runs."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1e3, 1)


def show(name: str, of: dict[str, Any]) -> None:
    """A table of one database."""
    print(f"{name}: {of['records']} records, published in {of['published_s']} s, {of['resident_mib']} MiB")
    print(f"  a look when nothing changed {of['unchanged_look_ms']} ms")
    for prefix in (key for key in of if isinstance(of[key], dict) and key != "peer"):
        one = of[prefix]
        print(
            f"  {prefix:16} {one['records_per_s']:6} records/s (asked 2000), page {one['first_pages_ms']} ms "
            f"first, {one['last_pages_ms']} ms last"
        )
    first, last = of["peer"]["first_page_ms"], of["peer"]["last_page_ms"]
    print(f"  rows alone by OFFSET: {first} ms first, {last} ms last")


if __name__ == "__main__":
    main()
