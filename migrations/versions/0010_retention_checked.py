"""The check that what waits has its body, validated: in a transaction of its own, so that intake goes on meanwhile."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE receiver.deliveries VALIDATE CONSTRAINT ck_deliveries_waiting_has_body")


def downgrade() -> None:
    """Nothing: what is valid may stay so."""
