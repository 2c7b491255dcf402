"""Traces, their events, and the layouts of their readings."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From an empty database."""
    store = op.create_table("store", sa.Column("mark", sa.Text(), primary_key=True))
    op.bulk_insert(store, [{"mark": secrets.token_hex(4)}])
    op.create_table(
        "layouts",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("probes", sa.Text(), nullable=False),
        sa.Column("concepts", sa.Text(), nullable=False),
    )
    texts = ("finished", "model", "vectors", "calibration", "settings", "tags", "sha256")
    op.create_table(
        "traces",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("tokens", "generated", "alarms", "faults")),
        sa.Column("layer", sa.Integer(), nullable=True),
        sa.Column("layout", sa.Text(), sa.ForeignKey("layouts.id"), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("readings", sa.Text(), nullable=False, unique=True),
        sa.Column("content", sa.Boolean(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_traces_started", "traces", ["started"])
    op.create_table(
        "events",
        sa.Column("trace", sa.Text(), sa.ForeignKey("traces.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    """Back to nothing."""
    for table in ("events", "traces", "layouts", "store"):
        op.drop_table(table)
