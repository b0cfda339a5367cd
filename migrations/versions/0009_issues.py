"""Keep issues, and the messages about them, in ``0009_issues.sql``."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    op.execute("DROP TABLE receiver.notifications")
    op.execute("DROP TABLE receiver.issues")
