"""Suspects come last in the index of what waits: looking for one, or for something else, reads only what may be taken.

The old index served another release's claims just as well as the new one does.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _index("suspect", "next_attempt_at", "id")


def downgrade() -> None:
    _index("next_attempt_at", "id")


def _index(*columns: str) -> None:
    op.drop_index("ix_deliveries_waiting", "deliveries", schema="receiver")
    op.create_index(
        "ix_deliveries_waiting",
        "deliveries",
        list(columns),
        schema="receiver",
        postgresql_where=sa.text("status IN ('pending', 'failed')"),
    )
