"""Finding a window of time in the change feed, for exports: its rows lie in the order of their times."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_events_recorded_at",
        "events",
        ["recorded_at"],
        schema="ems",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )


def downgrade() -> None:
    op.drop_index("ix_events_recorded_at", "events", schema="ems")
