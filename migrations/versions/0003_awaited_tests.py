"""Awaited tests: whether OpenCard surely was asked, and the few that are unresolved, found at once.

Workers ask for the unresolved ones with every claim.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "awaited_tests",
        sa.Column(
            "sent_at",
            sa.DateTime(timezone=True),
            comment="when OpenCard said that it sends the test; null while it may not have been asked at all",
        ),
        schema="receiver",
    )
    op.create_index(
        "ix_awaited_tests_unresolved",
        "awaited_tests",
        ["webhook_id"],
        schema="receiver",
        postgresql_where=sa.text("resolved_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_awaited_tests_unresolved", "awaited_tests", schema="receiver")
    op.drop_column("awaited_tests", "sent_at", schema="receiver")
