"""Counters: what each process has counted, added up by whoever answers ``/metrics``."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counter_flushes",
        sa.Column("process", sa.Uuid(), nullable=False, comment="random; a worker's work-horses count as the worker"),
        sa.Column(
            "flush_id", sa.Uuid(), nullable=False, comment="so that a flush whose answer was lost is not added twice"
        ),
        sa.Column("flushed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_counter_flushes"),
        schema="receiver",
    )
    op.create_table(
        "counters",
        sa.Column("process", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="as in /metrics"),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("value", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("process", "name", "labels", name="pk_counters"),
        schema="receiver",
    )
    # rows are updated again and again, their keys never: room for that on the same page
    op.execute("ALTER TABLE receiver.counters SET (fillfactor = 50)")


def downgrade() -> None:
    op.drop_table("counters", schema="receiver")
    op.drop_table("counter_flushes", schema="receiver")
