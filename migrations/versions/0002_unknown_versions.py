"""Count the deliveries of unknown versions that were applied."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE receiver.unknown_versions (
    event TEXT NOT NULL,
    version TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    first_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_unknown_versions PRIMARY KEY (event, version)
)
""")
    op.execute("COMMENT ON COLUMN receiver.unknown_versions.event IS 'its name in the catalogue'")
    op.execute("COMMENT ON COLUMN receiver.unknown_versions.version IS 'X-Version, as received'")
    op.execute(
        "COMMENT ON COLUMN receiver.unknown_versions.deliveries IS 'how many were applied, replays counted again'"
    )


def downgrade() -> None:
    op.execute("DROP TABLE receiver.unknown_versions")
