"""The views that show how complete the deliveries are. Migrations keep their own copies; a test compares both.

Both read indexes webhook by webhook, the second for eight days only, so that they stay cheap with millions of
deliveries.
"""

from __future__ import annotations

from typing import Final

RECONCILE_STATE: Final = """
CREATE OR REPLACE VIEW receiver.reconcile_state AS
SELECT
    webhook.id AS webhook_id,
    webhook.opencard_webhook_id,
    webhook.organization_reference_id,
    checked.checked_until,
    checked.unconfirmed_before,
    last.started_at AS last_started_at,
    last.ended_at AS last_ended_at,
    last.error AS last_error,
    coalesce(done.recovered_in_all, 0) AS recovered,
    coalesce(done.unconfirmed, 0) AS unconfirmed,
    coalesce(done.unrecoverable, 0) AS unrecoverable
FROM receiver.webhooks AS webhook
LEFT JOIN LATERAL (
    SELECT checked_until, unconfirmed_before FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.checked_until IS NOT NULL
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
WHERE webhook.opencard_webhook_id IS NOT NULL AND NOT webhook.test
"""
"""One row for each registered webhook except test webhooks: how far its log is checked, and what is open."""

DELIVERY_GAPS_BY_HOUR: Final = """
CREATE OR REPLACE VIEW receiver.delivery_gaps_by_hour AS
SELECT
    state.webhook_id,
    state.opencard_webhook_id,
    state.organization_reference_id,
    hours.hour,
    CASE
        WHEN state.checked_until IS NOT NULL THEN least(state.checked_until, hours.hour + interval '1 hour')
    END AS checked_until,
    coalesce(logged.log_entries, 0) AS log_entries,
    coalesce(kept.stored, 0) AS stored,
    coalesce(kept.recovered, 0) AS recovered,
    coalesce(kept.unconfirmed, 0) AS unconfirmed,
    coalesce(logged.unrecoverable, 0) AS unrecoverable,
    coalesce(logged.unrecoverable, 0) = 0 AND coalesce(
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
) AS logged ON logged.webhook_id = state.webhook_id AND logged.hour = hours.hour
LEFT JOIN (
    SELECT webhook.id AS webhook_id, deliveries.*
    FROM receiver.reconcile_state AS checked
    JOIN receiver.webhooks AS webhook ON webhook.id = checked.webhook_id
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', coalesce(confirmation.occurred_at, delivery.occurred_at), 'UTC') AS hour,
            count(*) AS stored,
            count(*) FILTER (WHERE delivery.source = 'log') AS recovered,
            count(*) FILTER (
                WHERE delivery.source = 'push' AND confirmation.confirmed_at IS NULL
                    AND delivery.received_at < checked.unconfirmed_before
                    AND NOT EXISTS (
                        SELECT FROM receiver.delivery_decisions AS decision WHERE decision.delivery_id = delivery.id
                    )
            ) AS unconfirmed,
            max(delivery.received_at) FILTER (WHERE delivery.source = 'push') AS latest
        FROM receiver.stored_deliveries AS delivery
        LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = delivery.id
        WHERE delivery.webhook_id = webhook.id
            AND delivery.received_at >= date_trunc('hour', now(), 'UTC') - interval '8 days'
        GROUP BY 1
    ) AS deliveries
) AS kept ON kept.webhook_id = state.webhook_id AND kept.hour = hours.hour
"""
"""One row for each registered webhook and hour of the last eight days. Is anything undelivered? WHERE NOT complete.

``complete``: checked against the log to the hour's end (in the current hour: to its latest delivery), and nothing is
missing. A recovered delivery is not missing any more, though it may not be applied yet (see ``ems.completeness``).
"""
