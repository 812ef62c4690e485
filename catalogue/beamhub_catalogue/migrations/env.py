"""Run by Alembic: migrates over the connection that `beamhub_catalogue.database` hands in."""

from __future__ import annotations

from alembic import context

from beamhub_catalogue.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
