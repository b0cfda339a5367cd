"""Epochs of the feed: a position never means two things, though a restore or a failover lost what was committed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# managed servers refuse some of these functions, and the last needs a superuser or a grant
FEED_HISTORY = """
CREATE FUNCTION receiver.feed_history(
    OUT system_identifier bigint, OUT timeline integer, OUT backup_label bytea,
    OUT database_oid bigint, OUT events_oid bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    database_oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    events_oid := 'ems.events'::regclass::oid;
    BEGIN
        system_identifier := (SELECT control.system_identifier FROM pg_control_system() AS control);
    EXCEPTION WHEN OTHERS THEN
        system_identifier := NULL;
    END;
    BEGIN
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    EXCEPTION WHEN OTHERS THEN
        timeline := NULL;
    END;
    BEGIN
        backup_label := coalesce(sha256(pg_read_binary_file('backup_label.old', 0, 8192, true)), '');
    EXCEPTION WHEN OTHERS THEN
        backup_label := NULL;
    END;
END
$$
"""

NOTE_THE_FIRST = """
INSERT INTO receiver.feed_epochs (epoch, system_identifier, timeline, backup_label, database_oid, events_oid)
SELECT 0, system_identifier, timeline, backup_label, database_oid, events_oid FROM receiver.feed_history()
"""

COMMENTS = {
    "TABLE ems.feed_horizon": "Up to where the change feed has been deleted, and its epoch, in one row; none as long as nothing was deleted and no epoch began. A reader whose position is less than deleted_through may have missed events, and one whose position is less than epoch_start may have read what a restore or a failover lost: note the newest position, read the tables anew, and go on from there.",
    "COLUMN ems.feed_horizon.deleted_through": "Highest position in ems.events that was deleted, 0 if none; what is above is all there",
    "COLUMN ems.feed_horizon.deleted_at": "When events were last deleted, in UTC; if none were, when the first epoch began",
    "COLUMN ems.feed_horizon.epoch": "The feed's present epoch, the high bits of new positions (position >> 40). It grows when PostgreSQL was restored or failed over",
    "COLUMN ems.feed_horizon.epoch_start": "Where the present epoch began: its positions are higher, all others are not. 0 in epoch 0",
    "COLUMN ems.events.position": "Grows in commit order: what commits later has a higher position. Numbers may be left out; none is given twice. Its high bits are the feed's epoch (position >> 40), see feed_horizon",
}


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    op.create_table(
        "feed_epochs",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "epoch_start",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="positions of the epoch are higher",
        ),
        sa.Column("begun_at", timestamp, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("reason", sa.Text(), comment="why it began; null for the first"),
        sa.Column(
            "last_run_id",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="runs of reconcile up to this one do not count any more",
        ),
        sa.Column("recovered_at", timestamp, comment="when an operator acknowledged it by receiver recover"),
        sa.Column("system_identifier", sa.BigInteger(), comment="of the cluster; null where PostgreSQL does not say"),
        sa.Column("timeline", sa.Integer(), comment="of the WAL; null where PostgreSQL does not say"),
        sa.Column(
            "backup_label",
            sa.LargeBinary(),
            comment="SHA-256 of the label of the base backup that the server was started from; empty without one, null "
            "where PostgreSQL does not say",
        ),
        sa.Column("database_oid", sa.BigInteger()),
        sa.Column("events_oid", sa.BigInteger(), comment="of ems.events"),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_feed_epochs")),
        schema="receiver",
    )
    op.add_column(
        "feed_horizon", sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False), schema="ems"
    )
    op.add_column(
        "feed_horizon",
        sa.Column("epoch_start", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        schema="ems",
    )
    for on, words in COMMENTS.items():
        quoted = words.replace("'", "''")
        op.execute(sa.text(f"COMMENT ON {on} IS '{quoted}'".replace(":", "\\:")))
    op.execute(sa.text(FEED_HISTORY.replace(":", "\\:")))
    op.execute(NOTE_THE_FIRST)


def downgrade() -> None:
    op.execute("DROP FUNCTION receiver.feed_history")
    op.drop_column("feed_horizon", "epoch_start", schema="ems")
    op.drop_column("feed_horizon", "epoch", schema="ems")
    op.drop_table("feed_epochs", schema="receiver")
