-- For events of the log: the deliveries that repeat them and, if any does (with "all": always), the one that brought the
-- event. Of each delivery: when it was first attempted, as far as is known, and whether it was retracted.
WITH repeats AS MATERIALIZED (
    SELECT delivery_id, position FROM receiver.outcomes WHERE status = 'duplicate' AND position = ANY(CAST(%(positions)s AS bigint[]))
), mentions AS (
    SELECT delivery_id, position, true AS repeats FROM repeats
    UNION ALL
    SELECT brought.delivery_id, brought.position, false
    FROM (
        SELECT position FROM repeats
        UNION
        SELECT position FROM unnest(CAST(%(positions)s AS bigint[])) AS read (position) WHERE %(all)s
    ) AS repeated
    CROSS JOIN LATERAL (SELECT * FROM ems.events AS event WHERE event.position = repeated.position OFFSET 0) AS brought
)
SELECT mention.delivery_id, mention.position, mention.repeats, stored.source,
    coalesce(
        (SELECT occurred_at FROM receiver.confirmations WHERE delivery_id = mention.delivery_id), stored.occurred_at
    ) AS occurred_at,
    EXISTS (
        SELECT FROM receiver.delivery_decisions AS decision
        WHERE decision.delivery_id = mention.delivery_id AND decision.decision = 'retracted'
    ) AS retracted
FROM mentions AS mention
CROSS JOIN LATERAL (
    SELECT * FROM receiver.stored_deliveries AS delivery WHERE delivery.id = mention.delivery_id OFFSET 0
) AS stored
