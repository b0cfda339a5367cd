"""The documents of signed TPAs are downloaded as receipts are, those that were signed before included."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

DOWNLOADS = "receipt_downloads"
# the constraint is checked without the lock that adding it takes
CHECKED = "ALTER TABLE receiver.receipt_downloads VALIDATE CONSTRAINT ck_receipt_downloads_one_subject"


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    for name, kind, words in (
        ("file_key", sa.Text(), "Name of the stored document; null until downloaded"),
        ("file_size", sa.BigInteger(), "Size of the stored document in bytes; null until downloaded"),
        ("file_sha256", sa.Text(), "SHA-256 of the stored document, hexadecimal; null until downloaded"),
        ("downloaded_at", timestamp, "When the document was stored, in UTC; null until downloaded"),
        ("download_error", sa.Text(), "Why the last download failed; null when none failed"),
    ):
        op.add_column("tpas", sa.Column(name, kind, comment=words), schema="ems")
    op.add_column(
        DOWNLOADS, sa.Column("tpa_id", sa.Text(), comment="of a signed TPA; null for a receipt"), schema="receiver"
    )
    op.alter_column(
        DOWNLOADS, "transaction_id", nullable=True, comment="of a receipt; null for a TPA", schema="receiver"
    )
    op.alter_column(
        DOWNLOADS, "url", comment="as in ems.receipts or ems.tpas; its query may be a secret", schema="receiver"
    )
    op.execute(
        "ALTER TABLE receiver.receipt_downloads ADD CONSTRAINT ck_receipt_downloads_one_subject "
        "CHECK (num_nonnulls(transaction_id, tpa_id) = 1) NOT VALID"
    )
    op.execute(CHECKED)
    op.create_index(
        "uq_receipt_downloads_tpa",
        DOWNLOADS,
        ["organization_reference_id", "tpa_id"],
        unique=True,
        schema="receiver",
        postgresql_where=sa.text("tpa_id IS NOT NULL"),
    )
    op.execute(
        "INSERT INTO receiver.receipt_downloads (organization_reference_id, tpa_id, url) "
        "SELECT organization_reference_id, id, url FROM ems.tpas WHERE url IS NOT NULL"
    )


def downgrade() -> None:
    raise NotImplementedError("an older release does not know TPAs among the downloads; restore a backup to go back")
