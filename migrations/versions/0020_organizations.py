"""The account's organizations, the configuration that is applied again, and webhooks that were deleted at OpenCard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    op.create_table(
        "organizations",
        sa.Column("organization_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="the provider's id"),
        sa.Column("organization_reference_id", sa.Text(), comment="the EMS's id of it; null where OpenCard has none"),
        sa.Column(
            "left_out",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="the configuration wants no webhook for it",
        ),
        sa.Column(
            "unavailable_events",
            postgresql.JSONB(),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="flags of wanted events that it cannot have: each with the reason, and when OpenCard rejected it",
        ),
        sa.Column("error", sa.Text(), comment="what the last run could not do for it"),
        sa.Column(
            "found_at",
            timestamp,
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was found first",
        ),
        sa.Column("deleted_at", timestamp, comment="since when the account's list does not have it"),
        sa.PrimaryKeyConstraint("organization_id", name=op.f("pk_organizations")),
        schema="receiver",
    )
    op.create_table(
        "applied_configuration",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "configuration",
            sa.LargeBinary(),
            nullable=False,
            comment="encrypted; JSON, values from the environment included",
        ),
        sa.Column(
            "applied_at",
            timestamp,
            server_default=sa.text("now()"),
            nullable=False,
            comment="when an operator applied it",
        ),
        sa.Column(
            "started_at",
            timestamp,
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the last run began that applied it",
        ),
        sa.Column("ended_at", timestamp, comment="when the last run ended that could list the organizations"),
        sa.Column("error", sa.Text(), comment="why the last run ended early; null when it did not"),
        sa.CheckConstraint("id = 1", name=op.f("ck_applied_configuration_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_applied_configuration")),
        schema="receiver",
    )
    op.add_column(
        "webhooks",
        sa.Column("deleted_at", timestamp, comment="since when OpenCard does not have it; it is not reconciled then"),
        schema="receiver",
    )
    op.add_column(
        "webhooks",
        sa.Column(
            "registered_groups",
            postgresql.JSONB(),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="buyer parties that were registered, where OpenCard does not list them",
        ),
        schema="receiver",
    )


def downgrade() -> None:
    op.drop_column("webhooks", "registered_groups", schema="receiver")
    op.drop_column("webhooks", "deleted_at", schema="receiver")
    op.drop_table("applied_configuration", schema="receiver")
    op.drop_table("organizations", schema="receiver")
