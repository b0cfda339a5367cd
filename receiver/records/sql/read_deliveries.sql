-- For events of the event log: their retries and, if an event has any (with "all": always), its first delivery. Of each
-- delivery: when it was first attempted, as far as is known, and whether it was retracted.
WITH retries AS MATERIALIZED (
    SELECT delivery_id, position FROM receiver.outcomes WHERE status = 'duplicate' AND position = ANY(CAST(%(positions)s AS bigint[]))
), deliveries AS (
    SELECT delivery_id, position, true AS is_retry FROM retries
    UNION ALL
    SELECT event.delivery_id, event.position, false
    FROM (
        SELECT position FROM retries
        UNION
        SELECT position FROM unnest(CAST(%(positions)s AS bigint[])) AS read (position) WHERE %(all)s
    ) AS wanted
    CROSS JOIN LATERAL (SELECT * FROM ems.events AS logged WHERE logged.position = wanted.position OFFSET 0) AS event
)
SELECT delivery.delivery_id, delivery.position, delivery.is_retry, stored.source,
    coalesce(
        (SELECT occurred_at FROM receiver.confirmations WHERE delivery_id = delivery.delivery_id), stored.occurred_at
    ) AS occurred_at,
    EXISTS (
        SELECT FROM receiver.delivery_decisions AS decision
        WHERE decision.delivery_id = delivery.delivery_id AND decision.decision = 'retracted'
    ) AS retracted
FROM deliveries AS delivery
CROSS JOIN LATERAL (
    SELECT * FROM receiver.stored_deliveries AS kept WHERE kept.id = delivery.delivery_id OFFSET 0
) AS stored
