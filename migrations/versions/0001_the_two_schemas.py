"""The schemas ``receiver`` and ``ems``, in ``0001_the_two_schemas.sql``."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("there is no release before this one; drop the schemas receiver and ems to begin again")
