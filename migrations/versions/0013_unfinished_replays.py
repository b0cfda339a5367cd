"""Replays that have not ended, found at once: workers ask for them whenever nothing fresh waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_replays_unfinished",
        "replays",
        ["id"],
        schema="receiver",
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_replays_unfinished", "replays", schema="receiver")
