"""Receipts are known by a hash of their URL, which may be longer than a key can be; impossible times are corrected.

Fields of a purchase that could not be read are listed.

The table of receipts is written anew, which readers of it wait for.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

HASH = r"sha256(decode(replace(url, '\', '\\'), 'escape'))"
COMMENT = "SHA-256 of url (UTF-8), which may be longer than a key can be"
UNREADABLE = "Names of columns that are null because their field of the payload could not be read; the event's payload has it as it arrived; null when all could be"
IDENTITY = "SHA-256 of the log''s id; without one, of what the entry says and its number among equal ones"
EARLIEST, LATEST = "'0001-01-03Z'", "'9999-12-29Z'"


def upgrade() -> None:
    op.execute(
        "UPDATE receiver.delivery_log SET attempted_at = NULL "
        "WHERE attempted_at NOT BETWEEN '2015-01-01Z' AND now() + interval '1 day'"
    )
    # in the order in which processing locks the three
    op.add_column("transactions", sa.Column("unreadable", sa.ARRAY(sa.Text()), comment=UNREADABLE), schema="ems")
    op.execute(
        f"ALTER TABLE ems.receipts ADD COLUMN url_sha256 bytea NOT NULL GENERATED ALWAYS AS ({HASH}) STORED, "
        "DROP CONSTRAINT pk_receipts, "
        "ADD CONSTRAINT pk_receipts PRIMARY KEY (organization_reference_id, transaction_id, url_sha256)"
    )
    op.execute(f"COMMENT ON COLUMN ems.receipts.url_sha256 IS '{COMMENT}'")
    correct("ems.receipts", "expiration_time")
    op.execute(
        "ALTER TABLE receiver.receipt_downloads "
        f"ADD COLUMN url_sha256 bytea NOT NULL GENERATED ALWAYS AS ({HASH}) STORED"
    )
    op.execute("DROP INDEX receiver.uq_receipt_downloads_receipt")
    op.execute(
        "CREATE UNIQUE INDEX uq_receipt_downloads_receipt ON receiver.receipt_downloads "
        "(organization_reference_id, transaction_id, url_sha256)"
    )
    correct("receiver.receipt_downloads", "expires_at")

    op.execute(f"COMMENT ON COLUMN receiver.delivery_log.identity IS '{IDENTITY}'")


def correct(table: str, column: str) -> None:
    op.execute(
        f"UPDATE {table} SET {column} = greatest({EARLIEST}, least({LATEST}, {column})) "  # noqa: S608 - of constants
        f"WHERE {column} NOT BETWEEN {EARLIEST} AND {LATEST}"
    )


def downgrade() -> None:
    raise NotImplementedError("a key cannot hold every URL; restore a backup to go back further")
