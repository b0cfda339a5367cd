-- Leases deliveries of one replay, oldest first, up to so many bytes of bodies; see claim.sql. What was tried before the
-- replay counts for no pause.
WITH chosen AS MATERIALIZED (
    SELECT delivery_id FROM receiver.replay_deliveries
    WHERE replay_id = %(replay_id)s AND outcome IS NULL AND alone = %(alone)s AND leased_until IS NULL
    ORDER BY delivery_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT chosen.delivery_id, octet_length(body.body) AS size
    FROM chosen
    CROSS JOIN LATERAL (
        SELECT * FROM receiver.bodies AS kept WHERE kept.delivery_id = chosen.delivery_id OFFSET 0
    ) AS body
), placed AS MATERIALIZED (
    SELECT delivery_id, sum(size) OVER (ORDER BY delivery_id) - size AS bytes_before FROM sized
), leased AS (
    UPDATE receiver.replay_deliveries SET leased_until = now() + CAST(%(lease)s AS interval), attempts = attempts + 1
    WHERE replay_id = %(replay_id)s
        AND delivery_id = ANY (ARRAY(SELECT delivery_id FROM placed WHERE bytes_before < %(bytes)s))
    RETURNING delivery_id, leased_until
)
SELECT stored.id, webhook.organization_reference_id, stored.event, stored.version, (
        SELECT body.body FROM receiver.bodies AS body WHERE body.delivery_id = stored.id
    ) AS body, stored.source, coalesce(
        (SELECT occurred_at FROM receiver.confirmations WHERE delivery_id = stored.id), stored.occurred_at
    ) AS occurred_at, coalesce(queued.attempts, outcome.attempts, 0) + 1 AS attempts,
    coalesce(queued.attempts, outcome.attempts, 0) AS attempts_before_replay,
    outcome.position, webhook.test, leased.leased_until, stored.received_at AS due_at, (SELECT count(*) FROM sized) AS found
FROM leased
CROSS JOIN LATERAL (
    SELECT * FROM receiver.stored_deliveries AS delivery WHERE delivery.id = leased.delivery_id OFFSET 0
) AS stored
CROSS JOIN LATERAL (
    SELECT organization_reference_id, test FROM receiver.webhooks AS owner WHERE owner.id = stored.webhook_id OFFSET 0
) AS webhook
LEFT JOIN LATERAL (
    SELECT position, attempts FROM receiver.outcomes AS before WHERE before.delivery_id = stored.id OFFSET 0
) AS outcome ON true
LEFT JOIN LATERAL (
    SELECT attempts FROM receiver.queue AS waiting WHERE waiting.delivery_id = stored.id OFFSET 0
) AS queued ON true
ORDER BY stored.id
