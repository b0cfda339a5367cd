"""Activity: deliveries of each hour that is over, and how much had been counted at each minute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counter_minutes",
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received", sa.Double(), nullable=False, comment="deliveries stored"),
        sa.Column("processed", sa.Double(), nullable=False, comment="attempts that need no other"),
        sa.Column("failed", sa.Double(), nullable=False, comment="attempts that ended as failed, dead or quarantined"),
        sa.PrimaryKeyConstraint("at", name="pk_counter_minutes"),
        schema="receiver",
    )
    op.create_table(
        "counted_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hour", name="pk_counted_hours"),
        schema="receiver",
    )
    op.create_table(
        "delivery_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("deliveries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "webhook_id", "source", "status", name="pk_delivery_hours"),
        schema="receiver",
    )


def downgrade() -> None:
    op.drop_table("delivery_hours", schema="receiver")
    op.drop_table("counted_hours", schema="receiver")
    op.drop_table("counter_minutes", schema="receiver")
