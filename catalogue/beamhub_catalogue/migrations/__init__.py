"""Alembic's environment and what its revisions share."""
