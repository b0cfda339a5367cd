"""Reconciling: the mirror of the delivery log keeps its items as they came, runs say what they prove, two views tell.

Nothing was written to the mirror or to the runs before this revision, so that the old release does not miss what
changes there.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RECONCILE_STATE = """
CREATE OR REPLACE VIEW receiver.reconcile_state AS
SELECT
    webhook.id AS webhook_id,
    webhook.opencard_webhook_id,
    webhook.organization_reference_id,
    checked.watermark AS checked_until,
    checked.unconfirmed_before,
    last.started_at AS last_started_at,
    last.ended_at AS last_ended_at,
    last.error AS last_error,
    coalesce(done.recovered_in_all, 0) AS recovered,
    coalesce(done.unconfirmed, 0) AS unconfirmed,
    coalesce(done.unrecoverable, 0) AS unrecoverable
FROM receiver.webhooks AS webhook
LEFT JOIN LATERAL (
    SELECT watermark, unconfirmed_before FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.watermark IS NOT NULL
    ORDER BY run.started_at DESC LIMIT 1
) AS checked ON true
LEFT JOIN LATERAL (
    SELECT started_at, ended_at, error FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.ended_at IS NOT NULL
    ORDER BY run.started_at DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT recovered_in_all, unconfirmed, unrecoverable FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.ended_at IS NOT NULL AND run.error IS NULL
    ORDER BY run.started_at DESC LIMIT 1
) AS done ON true
WHERE webhook.opencard_webhook_id IS NOT NULL
"""

COMPLETENESS = """
CREATE OR REPLACE VIEW receiver.completeness AS
SELECT
    state.webhook_id,
    state.opencard_webhook_id,
    state.organization_reference_id,
    hours.hour,
    CASE
        WHEN state.checked_until IS NOT NULL THEN least(state.checked_until, hours.hour + interval '1 hour')
    END AS checked_until,
    coalesce(told.log_entries, 0) AS log_entries,
    coalesce(kept.stored, 0) AS stored,
    coalesce(kept.recovered, 0) AS recovered,
    coalesce(kept.unconfirmed, 0) AS unconfirmed,
    coalesce(told.unrecoverable, 0) AS unrecoverable,
    coalesce(told.unrecoverable, 0) = 0 AND coalesce(
        state.checked_until >= CASE
            WHEN hours.hour + interval '1 hour' <= now() THEN hours.hour + interval '1 hour'
            ELSE greatest(hours.hour, kept.latest)
        END,
        false
    ) AS complete
FROM receiver.reconcile_state AS state
CROSS JOIN (
    SELECT generate_series(
        date_trunc('hour', now(), 'UTC') - interval '8 days', date_trunc('hour', now(), 'UTC'), interval '1 hour'
    ) AS hour
) AS hours
LEFT JOIN (
    SELECT webhook.id AS webhook_id, entries.*
    FROM receiver.webhooks AS webhook
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', entry.attempted_at, 'UTC') AS hour, count(*) AS log_entries,
            count(*) FILTER (WHERE entry.unrecoverable) AS unrecoverable
        FROM receiver.delivery_log AS entry
        WHERE entry.webhook_id = webhook.id
            AND entry.attempted_at >= date_trunc('hour', now(), 'UTC') - interval '8 days'
        GROUP BY 1
    ) AS entries
) AS told ON told.webhook_id = state.webhook_id AND told.hour = hours.hour
LEFT JOIN (
    SELECT webhook.id AS webhook_id, deliveries.*
    FROM receiver.reconcile_state AS checked
    JOIN receiver.webhooks AS webhook ON webhook.id = checked.webhook_id
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', delivery.occurred_at, 'UTC') AS hour, count(*) AS stored,
            count(*) FILTER (WHERE delivery.source = 'log') AS recovered,
            count(*) FILTER (
                WHERE delivery.source = 'push' AND delivery.confirmed_at IS NULL
                    AND delivery.received_at < checked.unconfirmed_before
            ) AS unconfirmed,
            max(delivery.received_at) FILTER (WHERE delivery.source = 'push') AS latest
        FROM receiver.deliveries AS delivery
        WHERE delivery.webhook_id = webhook.id
            AND delivery.received_at >= date_trunc('hour', now(), 'UTC') - interval '8 days'
        GROUP BY 1
    ) AS deliveries
) AS kept ON kept.webhook_id = state.webhook_id AND kept.hour = hours.hour
"""


def upgrade() -> None:
    timestamp = sa.DateTime(timezone=True)
    op.execute("DELETE FROM receiver.delivery_log")
    op.drop_column("delivery_log", "item", schema="receiver")
    in_the_mirror: tuple[sa.Column[Any], ...] = (
        sa.Column(
            "identity",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the log's id; without one, of what the entry says and the how manieth it is",
        ),
        sa.Column("item", sa.LargeBinary(), nullable=False, comment="the log's item, whole, as it came: JSON in UTF-8"),
        sa.Column(
            "unrecoverable",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="its event is missing here, and the log does not tell the payload",
        ),
    )
    for column in in_the_mirror:
        op.add_column("delivery_log", column, schema="receiver")
    op.create_index(
        "uq_delivery_log_webhook_id_identity",
        "delivery_log",
        ["webhook_id", "identity"],
        unique=True,
        schema="receiver",
    )
    op.create_index(
        "ix_delivery_log_unrecoverable",
        "delivery_log",
        ["webhook_id"],
        schema="receiver",
        postgresql_where=sa.text("unrecoverable"),
    )
    of_runs: tuple[sa.Column[Any], ...] = (
        sa.Column("since", timestamp, comment="how far back the log was read; null: to its beginning"),
        sa.Column(
            "unconfirmed_before",
            timestamp,
            comment="what was received before this and is not in the log counts as unconfirmed",
        ),
        sa.Column(
            "recovered_in_all",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="by this run and those before it",
        ),
    )
    for column in of_runs:
        op.add_column("reconcile_runs", column, schema="receiver")
    for name, words in (
        ("delivery_log.event", "as the log has it; empty where it names none"),
        ("delivery_log.fingerprint", "SHA-256 of the event by value; null without a payload"),
        ("delivery_log.read_at", "when it was read first"),
        ("reconcile_runs.watermark", "checked from the beginning up to here; null where the run does not prove that"),
        ("reconcile_runs.log_entries", "attempts read"),
        ("reconcile_runs.matched", "events that the log and the deliveries have"),
        ("reconcile_runs.recovered", "deliveries made from the log"),
        ("reconcile_runs.unconfirmed", "deliveries open when the run ended"),
        ("reconcile_runs.unrecoverable", "events open when the run ended"),
    ):
        op.execute(f"COMMENT ON COLUMN receiver.{name} IS '{words}'")
    op.execute(RECONCILE_STATE)
    op.execute(COMPLETENESS)


def downgrade() -> None:
    op.execute("DROP VIEW receiver.completeness, receiver.reconcile_state")
    for name in ("recovered_in_all", "unconfirmed_before", "since"):
        op.drop_column("reconcile_runs", name, schema="receiver")
    op.execute("DELETE FROM receiver.delivery_log")
    for name in ("unrecoverable", "item", "identity"):
        op.drop_column("delivery_log", name, schema="receiver")
    op.add_column(
        "delivery_log",
        sa.Column("item", postgresql.JSONB(), nullable=False, comment="the log's item, whole"),
        schema="receiver",
    )
