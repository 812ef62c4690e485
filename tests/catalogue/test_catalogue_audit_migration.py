"""From the table without a chain to the chain: what was recorded before is kept, without its free texts."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import select, text

from beamhub_catalogue.audit import find_pseudonym, record
from beamhub_catalogue.audit_chain import verify
from beamhub_catalogue.database import MIGRATIONS, Database, ensure_schema
from beamhub_catalogue.models import AuditRow
from catalogue.catalogue_parts import INES, NOW


def migrate(database: Database, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
        connection.commit()


def test_earlier_entries_begin_the_chain(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'web.sqlite'}")
    migrate(database, "0002")
    insert = (
        "INSERT INTO audit (at, kind, account, subject, detail) VALUES (:at, :kind, :who, :subject, :detail)"
    )
    rows = [
        ("login", INES.account, INES.account, {"issuer": INES.issuer}),
        ("decision", INES.account, "typed by Ines Ferreira", {"decision": "not_found"}),
        ("state", INES.account, "0" * 32, {"state": "running"}),
    ]
    with database.engine.begin() as connection:
        for kind, who, subject, detail in rows:
            values = {"at": str(NOW.replace(tzinfo=None)), "kind": kind, "who": who, "subject": subject}
            connection.execute(text(insert), values | {"detail": json.dumps(detail)})
    ensure_schema(database)
    with database.writing() as session:
        record(session, "account_ended", "", NOW, account=INES.account)
    with database.reading() as session:
        found = list(session.scalars(select(AuditRow).order_by(AuditRow.seq)))
        assert verify(session).fault is None
        actor = find_pseudonym(session, "person", INES.account)
    assert [(row.kind, row.actor) for row in found] == [
        (kind, actor) for kind in ("login", "decision", "state", "account_ended")
    ]
    assert not any(
        word in str((row.subject, row.detail)) for row in found for word in (INES.account, "Ferreira")
    )
    assert [row.at for row in found] == [NOW] * 4
    migrate(database, "0002", down=True)
    ensure_schema(database)
    database.close()
