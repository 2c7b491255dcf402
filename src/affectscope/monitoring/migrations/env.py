"""Run by Alembic, on the connection and inside the transaction that the store holds already."""

from __future__ import annotations

from alembic import context

from affectscope.monitoring.store_schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a column otherwise
)
with context.begin_transaction():
    context.run_migrations()
