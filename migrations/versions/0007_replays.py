"""Replays: which deliveries each of them is about, and indexes by which operators find deliveries.

The indexes are partial: what is processed without trouble enters that of its transaction and no other.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    for column in (
        sa.Column(
            "selecting_at",
            timestamp,
            server_default=sa.text("now()"),
            nullable=False,
            comment="when selecting last went on; long ago, with selected_at null: it was cut off",
        ),
        sa.Column("selected_at", timestamp, comment="when all were selected; workers take them from then on"),
        sa.Column("cancelled_at", timestamp),
        sa.Column("cancelled_by", sa.Text()),
    ):
        op.add_column("replays", column, schema="receiver")
    for name, words in (
        ("filter", "which deliveries were asked for"),
        ("selected", "how many deliveries"),
        ("processed", "once it ended: how many of them became processed or duplicate"),
        ("failed", "once it ended: how many of them failed, or were set aside again"),
    ):
        op.execute(f"COMMENT ON COLUMN receiver.replays.{name} IS '{words}'")
    op.create_table(
        "replay_deliveries",
        sa.Column("replay_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("status_before", sa.Text(), nullable=False, comment="its status when it was selected"),
        sa.Column(
            "alone",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="processed alone: it killed a worker before, or was in a batch that failed",
        ),
        sa.Column(
            "outcome",
            sa.Text(),
            comment="the status it got; cancelled, or without-body, when it was not processed; null while it waits",
        ),
        sa.Column("settled_at", timestamp),
        sa.PrimaryKeyConstraint("replay_id", "delivery_id", name=op.f("pk_replay_deliveries")),
        sa.ForeignKeyConstraint(
            ["replay_id"],
            ["receiver.replays.id"],
            name=op.f("fk_replay_deliveries_replay_id_replays"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["receiver.deliveries.id"],
            name=op.f("fk_replay_deliveries_delivery_id_deliveries"),
            ondelete="CASCADE",
        ),
        schema="receiver",
    )
    op.create_index(op.f("ix_replay_deliveries_delivery_id"), "replay_deliveries", ["delivery_id"], schema="receiver")
    op.create_index(
        "ix_replay_deliveries_open",
        "replay_deliveries",
        ["replay_id", "delivery_id"],
        schema="receiver",
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.add_column(
        "deliveries",
        sa.Column(
            "attempts_before_replay",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="how many of them were before its last replay failed to apply it: they do not count for pauses",
        ),
        schema="receiver",
    )
    for name, columns, which in (
        (
            "ix_deliveries_set_aside",
            ["status", "id"],
            "status IN ('duplicate', 'ignored', 'quarantined', 'failed', 'dead')",
        ),
        ("ix_deliveries_duplicates", ["fingerprint"], "status = 'duplicate'"),
        ("ix_deliveries_transaction_id", ["transaction_id"], "transaction_id IS NOT NULL"),
    ):
        op.create_index(name, "deliveries", columns, schema="receiver", postgresql_where=sa.text(which))


def downgrade() -> None:
    op.drop_table("replay_deliveries", schema="receiver")
    for name in ("cancelled_by", "cancelled_at", "selected_at", "selecting_at"):
        op.drop_column("replays", name, schema="receiver")
    op.drop_column("deliveries", "attempts_before_replay", schema="receiver")
    for name in ("ix_deliveries_transaction_id", "ix_deliveries_duplicates", "ix_deliveries_set_aside"):
        op.drop_index(name, "deliveries", schema="receiver")
