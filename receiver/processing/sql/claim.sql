-- Leases due deliveries, the oldest or the newest first, up to a number of bytes of bodies; the end of the lease identifies it.
-- A large body is a pointer here: PostgreSQL reads only those that are returned.
WITH chosen AS MATERIALIZED (
    SELECT delivery_id, due_at FROM receiver.queue
    WHERE $which AND leased_until IS NULL AND due_at <= now()
    ORDER BY due_at $order, delivery_id $order
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), sized AS MATERIALIZED (
    SELECT chosen.*, coalesce((
            SELECT octet_length(body.body) FROM receiver.bodies AS body WHERE body.delivery_id = chosen.delivery_id
        ), 0) AS size
    FROM chosen
), placed AS MATERIALIZED (
    SELECT delivery_id, sum(size) OVER (ORDER BY due_at $order, delivery_id $order) - size AS bytes_before FROM sized
), leased AS (
    UPDATE receiver.queue SET leased_until = now() + CAST(%(lease)s AS interval), attempts = attempts + 1
    WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM placed WHERE bytes_before < %(bytes)s))
    RETURNING delivery_id, due_at, attempts, leased_until, trace
)
SELECT stored.id, webhook.organization_reference_id, stored.event, stored.version, (
        SELECT body.body FROM receiver.bodies AS body WHERE body.delivery_id = stored.id
    ) AS body, stored.source, coalesce(
        (SELECT occurred_at FROM receiver.confirmations WHERE delivery_id = stored.id), stored.occurred_at
    ) AS occurred_at, leased.attempts, coalesce(outcome.attempts_before_replay, 0) AS attempts_before_replay,
    outcome.position, webhook.test, leased.trace, leased.leased_until, leased.due_at, (SELECT count(*) FROM chosen) AS found
FROM leased
CROSS JOIN LATERAL (
    SELECT * FROM receiver.stored_deliveries AS delivery WHERE delivery.id = leased.delivery_id OFFSET 0
) AS stored
CROSS JOIN LATERAL (
    SELECT organization_reference_id, test FROM receiver.webhooks AS owner WHERE owner.id = stored.webhook_id OFFSET 0
) AS webhook
LEFT JOIN LATERAL (
    SELECT position, attempts_before_replay FROM receiver.outcomes AS before WHERE before.delivery_id = stored.id OFFSET 0
) AS outcome ON true
ORDER BY leased.due_at $order, stored.id $order
