"""Retention: bodies may go, events may leave the feed; the runs that see to it, and how far they got.

The next migration validates the check of what waits: reading every row here would hold up intake.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    op.alter_column("deliveries", "body", nullable=True, schema="receiver")
    op.execute(
        "ALTER TABLE receiver.deliveries ADD CONSTRAINT ck_deliveries_waiting_has_body "
        "CHECK (body IS NOT NULL OR status NOT IN ('pending', 'failed')) NOT VALID"
    )
    op.add_column(
        "deliveries",
        sa.Column(
            "left_feed",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="its event was in the feed, whose row was kept long enough: never again",
        ),
        schema="receiver",
    )
    op.execute(
        "COMMENT ON COLUMN receiver.deliveries.body IS "
        "'raw bytes, as received; null once they were kept long enough, or their person was erased'"
    )
    op.execute("COMMENT ON COLUMN receiver.deliveries.headers IS 'without credentials; empty where the body is gone'")
    op.create_table(
        "retention_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("started_at", timestamp, server_default=NOW, nullable=False),
        sa.Column("ended_at", timestamp),
        sa.Column(
            "removed",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="how much of each kind went",
        ),
        sa.Column(
            "caught_up",
            sa.Boolean(),
            comment="whether all went that was kept long enough; false: the next run goes on",
        ),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_runs")),
        schema="receiver",
    )
    op.create_index(op.f("ix_retention_runs_started_at"), "retention_runs", ["started_at"], schema="receiver")
    op.create_table(
        "retention_walks",
        sa.Column("kind", sa.Text(), nullable=False, comment="what is deleted on this walk"),
        sa.Column(
            "position",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="the last row that was looked at",
        ),
        sa.Column(
            "pass_began_at",
            timestamp,
            server_default=NOW,
            nullable=False,
            comment="when the walk last began at the first row",
        ),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_retention_walks")),
        schema="receiver",
    )


def downgrade() -> None:
    op.drop_table("retention_walks", schema="receiver")
    op.drop_table("retention_runs", schema="receiver")
    op.drop_column("deliveries", "left_feed", schema="receiver")
    op.execute("ALTER TABLE receiver.deliveries DROP CONSTRAINT ck_deliveries_waiting_has_body")
    op.execute("UPDATE receiver.deliveries SET body = '' WHERE body IS NULL")
    op.alter_column("deliveries", "body", nullable=False, schema="receiver")
    op.execute("COMMENT ON COLUMN receiver.deliveries.body IS 'raw bytes, as received'")
    op.execute("COMMENT ON COLUMN receiver.deliveries.headers IS 'without credentials'")
