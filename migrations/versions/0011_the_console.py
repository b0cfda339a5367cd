"""The console: sessions, failed sign-ins, and who looked at which delivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of what the browser's cookie holds"),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column(
            "credential",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of role and password hash: the session ends when either changes",
        ),
        sa.Column("address", sa.Text(), nullable=False, comment="from where, as the proxy says"),
        sa.Column("network", sa.Text(), nullable=False, comment="the address; of IPv6 the /64 it is in"),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="of the last page, to the minute",
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), comment="when the user signed out"),
        sa.PrimaryKeyConstraint("id", name="pk_console_sessions"),
        sa.UniqueConstraint("token_hash", name="uq_console_sessions_token_hash"),
        schema="receiver",
    )
    op.create_index(
        "ix_console_sessions_user_name_network", "console_sessions", ["user_name", "network"], schema="receiver"
    )
    op.create_index("ix_console_sessions_signed_in_at", "console_sessions", ["signed_in_at"], schema="receiver")
    op.create_table(
        "sign_in_failures",
        sa.Column(
            "subject",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the name or the address; a name may be a mistyped password",
        ),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row, none of them a day apart"),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_sign_in_failures"),
        schema="receiver",
    )
    op.create_index("ix_sign_in_failures_failed_at", "sign_in_failures", ["failed_at"], schema="receiver")
    op.create_table(
        "delivery_views",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="no foreign key: the trace outlives the delivery",
        ),
        sa.Column("viewed_by", sa.Text(), nullable=False),
        sa.Column("viewed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery_views"),
        schema="receiver",
    )
    op.create_index(
        "ix_delivery_views_delivery_id_viewed_at", "delivery_views", ["delivery_id", "viewed_at"], schema="receiver"
    )
    op.create_index("ix_delivery_views_viewed_at", "delivery_views", ["viewed_at"], schema="receiver")


def downgrade() -> None:
    op.drop_table("delivery_views", schema="receiver")
    op.drop_table("sign_in_failures", schema="receiver")
    op.drop_table("console_sessions", schema="receiver")
