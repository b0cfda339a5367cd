"""Card holders who are erased: the key of their pseudonyms, who they are under these, and when it was done.

The tables that retention thins are vacuumed after a fiftieth of their rows has changed: by default it would take a fifth,
which in a table of many millions is more than a month's worth of bodies that take up space.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

THINNED = ("receiver.deliveries", "receiver.known_events", "receiver.delivery_log", "ems.events")
DUE = "ix_card_holders_to_be_erased"
ERASED_AT = "When reference_id was replaced by a pseudonym, here and in every other table, in UTC; null when it was not"


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    op.create_table(
        "erasure_key",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False, comment="encrypted; hexadecimal digits"),
        sa.CheckConstraint("id = 1", name=op.f("ck_erasure_key_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure_key")),
        schema="receiver",
    )
    op.create_table(
        "erased_card_holders",
        sa.Column("organization_reference_id", sa.Text(), nullable=False),
        sa.Column(
            "pseudonym",
            sa.Text(),
            nullable=False,
            comment="stands for the reference; keyed, so that nobody can find it by trying",
        ),
        sa.Column(
            "erased_at",
            timestamp,
            server_default=sa.text("now()"),
            nullable=False,
            comment="from when on the reference is replaced in what is processed",
        ),
        sa.Column(
            "finished_at",
            timestamp,
            comment="when it was replaced in all that was stored before; null while that goes on",
        ),
        sa.Column(
            "recreated_at",
            timestamp,
            comment="since when the reference is in use again: the card holder was created anew",
        ),
        sa.Column(
            "late_deliveries",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="deliveries that were processed under the pseudonym since",
        ),
        sa.Column("late_at", timestamp, comment="when the last of them was"),
        sa.PrimaryKeyConstraint("organization_reference_id", "pseudonym", name=op.f("pk_erased_card_holders")),
        schema="receiver",
    )
    op.create_index(
        "ix_erased_card_holders_unfinished",
        "erased_card_holders",
        ["erased_at"],
        schema="receiver",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.add_column("card_holders", sa.Column("erased_at", timestamp, comment=ERASED_AT), schema="ems")
    op.create_index(
        DUE,
        "card_holders",
        ["deleted_at"],
        schema="ems",
        postgresql_where=sa.text("deleted_at IS NOT NULL AND erased_at IS NULL"),
    )
    for table in THINNED:
        op.execute(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02)")


def downgrade() -> None:
    for table in THINNED:
        op.execute(f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor)")
    op.drop_index(DUE, "card_holders", schema="ems")
    op.drop_column("card_holders", "erased_at", schema="ems")
    op.drop_table("erased_card_holders", schema="receiver")
    op.drop_table("erasure_key", schema="receiver")
