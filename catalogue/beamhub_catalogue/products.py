"""A session says that it wrote a product: the file is checked, read and catalogued at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from beamhub_catalogue.audit_acts import record_product
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.file_report import FileReport
from beamhub_catalogue.grants import HOME_POOL, refusal
from beamhub_catalogue.harvest import UNKEPT, Harvester
from beamhub_catalogue.keeping import is_about_values
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.records import (
    Location,
    NotCatalogued,
    catalogued_inputs,
    check_inputs,
    read_product,
    store_product,
)
from beamhub_catalogue.walk import SUFFIXES, found_file
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.config.storage import PoolConfig
from beamhub_core.rights import Refused
from beamhub_core.session import SessionPlan


def take_product(desk: Desk, harvester: Harvester, plan: SessionPlan, path: str) -> str:
    """Read and catalogue a product that a session pushed; its pid.

    Raises
    ------
    Refused
        If the path is not one that the session may write, the file is no product, or it was made from data
        that the session's account may not read.
    """
    where, root = locate_product(desk.config, plan, path)
    pools = tuple(pool.root.resolve() for pool in desk.config.pools)
    answer, png = harvester.read_one(where.file, pools if where.private_to is None else (root,))
    if answer.report is None:
        raise Refused(refusal("bad_request", path, answer.reason or "The file cannot be read."))
    desk.rules.refresh()
    try:
        with desk.database.writing() as session:
            row = _store(session, desk, plan, where, answer.report)
            row.has_preview = harvester.keep_preview(row.pid, png) or row.has_preview
            record_product(session, row, plan.account, plan.id, desk.clock())
            return row.pid
    except NotCatalogued as refused:
        raise Refused(refusal("bad_request", path, f"The file {refused.reason}.")) from None
    except StatementError as error:
        if not is_about_values(error):
            raise
        raise Refused(refusal("bad_request", path, f"The file {UNKEPT}.")) from None


def locate_product(config: FacilityConfig, plan: SessionPlan, path: str) -> tuple[Location, Path]:
    """The file that a session means by a path of its own, and the root that it must lie in.

    Raises
    ------
    Refused
        If the path is not below a folder that the session may write, or is no regular file there.
    """
    named = PurePosixPath(path)
    mounts = [m for m in plan.mounts if m.mode == "rw" and m.purpose in ("processed", "home")]
    mount = next((m for m in mounts if named.is_relative_to(m.target)), None)
    plain = "\0" not in path and ".." not in named.parts and named.suffix.lower() in SUFFIXES
    pools = {pool.name: pool for pool in config.pools}
    if mount is None or not plain or (mount.purpose == "processed" and mount.pool not in pools):
        reason = "A product is a NeXus file in a processed folder, or in the home, of the session."
        raise Refused(refusal("bad_request", path, reason))
    if mount.purpose == "home":
        root = Path(mount.source).resolve()
        pool = PoolConfig(name=HOME_POOL, root=root, target=Path(mount.target))
    else:
        pool = pools[mount.pool]
        root = pool.root.resolve() / mount.path
    try:
        file = found_file(pool, root / named.relative_to(mount.target))
    except OSError:  # e.g. a name that is too long for any file
        file = None
    if file is None:
        reason = "There is no such file, or a link stands in its path."
        raise Refused(refusal("bad_request", path, reason))
    if mount.purpose == "home":
        return Location(replace(file, path=f"{plan.account}/{file.path}"), plan.account), root
    return Location(file), root


def _store(
    session: Session, desk: Desk, plan: SessionPlan, where: Location, report: FileReport
) -> DatasetRow:
    product = read_product(desk.config, where, report)
    if product.account != plan.account:
        raise NotCatalogued("says that another account made it")
    # What the account may not read counts as not there: a claim must not find out what exists.
    inputs = desk.readable(session, plan.account, catalogued_inputs(session, product))
    check_inputs(product, inputs)
    if where.private_to and product.proposal not in {row.proposal for row in inputs}:
        # In a home no folder says whose it is, and the pid would be made of any words.
        raise NotCatalogued(f"says that it belongs to {product.proposal[:80]!r}, but none of its inputs does")
    return store_product(session, product, where, inputs, desk.clock())
