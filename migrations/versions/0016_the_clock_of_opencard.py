"""How far OpenCard's clock is ahead, as each run of reconciling saw it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "reconcile_runs",
        sa.Column(
            "clock_ahead",
            sa.Interval(),
            nullable=True,
            comment="how far OpenCard's clock is ahead of PostgreSQL's; null where nothing told",
        ),
        schema="receiver",
    )
    op.create_index(
        "ix_reconcile_runs_clock_seen",
        "reconcile_runs",
        ["started_at"],
        schema="receiver",
        postgresql_where=sa.text("clock_ahead IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_reconcile_runs_clock_seen", "reconcile_runs", schema="receiver")
    op.drop_column("reconcile_runs", "clock_ahead", schema="receiver")
