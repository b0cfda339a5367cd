"""The view ``receiver.deliveries``: each stored delivery with its outcome and its confirmation by the delivery log.

For people and for single deliveries. Code that reads many deliveries reads the tables, which have the indexes.
The migration keeps a copy; a test checks that both agree.
"""

from __future__ import annotations

from typing import Final

DELIVERIES: Final = """
CREATE OR REPLACE VIEW receiver.deliveries AS
SELECT
    stored.id,
    stored.webhook_id,
    stored.event,
    stored.version,
    body.body,
    coalesce(body.headers, '{}') AS headers,
    stored.verification,
    stored.source,
    stored.received_at,
    coalesce(confirmation.occurred_at, stored.occurred_at) AS occurred_at,
    CASE
        WHEN outcome.status = 'failed' OR queued.delivery_id IS NULL THEN coalesce(outcome.status, 'pending')
        ELSE 'pending'
    END AS status,
    coalesce(queued.attempts, outcome.attempts, 0) AS attempts,
    coalesce(outcome.attempts_before_replay, 0) AS attempts_before_replay,
    queued.due_at AS next_attempt_at,
    outcome.processed_at,
    outcome.error,
    confirmation.confirmed_at,
    decision.decision,
    coalesce(queued.alone, false) AS alone,
    outcome.position,
    coalesce(outcome.fingerprint, event.fingerprint) AS fingerprint,
    coalesce(outcome.transaction_id, event.transaction_id) AS transaction_id,
    coalesce(outcome.card_holder_reference_id, event.card_holder_reference_id) AS card_holder_reference_id
FROM receiver.stored_deliveries AS stored
LEFT JOIN receiver.bodies AS body ON body.delivery_id = stored.id
LEFT JOIN receiver.queue AS queued ON queued.delivery_id = stored.id
LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
LEFT JOIN receiver.delivery_decisions AS decision ON decision.delivery_id = stored.id
LEFT JOIN ems.events AS event ON event.position = outcome.position
"""
"""One row for each delivery. ``status``: pending as long as it waits for its first attempt, or for a new one."""
