"""Receipts whose files are to be downloaded: those that come from now on, and those that came before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    op.create_table(
        "receipt_downloads",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("organization_reference_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False, comment="as in ems.receipts; its query may be a secret"),
        sa.Column("expires_at", timestamp, comment="until when the URL works; null when not told"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            server_default=sa.text("'waiting'"),
            comment="waiting: for a worker; expired: the URL works no more; refused: it must not be stored",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0", comment="how often it was begun"),
        sa.Column(
            "next_attempt_at",
            timestamp,
            nullable=False,
            server_default=sa.text("now()"),
            comment="while one is under way: when it counts as dead",
        ),
        sa.Column("last_attempt_at", timestamp, comment="when it was begun last"),
        sa.Column("error", sa.Text(), comment="why the last attempt failed, in one line for a person"),
        sa.Column("noted_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column("settled_at", timestamp, comment="when it was given up; null while it waits"),
        sa.CheckConstraint("status IN ('waiting', 'expired', 'refused')", name=op.f("ck_receipt_downloads_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt_downloads")),
        schema="receiver",
    )
    op.create_index(
        "uq_receipt_downloads_receipt",
        "receipt_downloads",
        ["organization_reference_id", "transaction_id", "url"],
        unique=True,
        schema="receiver",
    )
    op.create_index(
        "ix_receipt_downloads_waiting",
        "receipt_downloads",
        ["next_attempt_at", "id"],
        schema="receiver",
        postgresql_where=sa.text("status = 'waiting'::text"),
    )
    op.execute(
        "INSERT INTO receiver.receipt_downloads (organization_reference_id, transaction_id, url, expires_at)"
        " SELECT organization_reference_id, transaction_id, url, expiration_time FROM ems.receipts"
        " WHERE file_key IS NULL"
    )


def downgrade() -> None:
    op.drop_table("receipt_downloads", schema="receiver")
