"""Alembic's folder: how a database of an older affectscope becomes one of this."""
