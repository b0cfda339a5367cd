-- Queues deliveries of one replay, oldest first. Earlier attempts do not lengthen the pauses. What a worker holds now is
-- left for the next call.
WITH chosen AS MATERIALIZED (
    SELECT member.delivery_id, member.alone,
        EXISTS (SELECT FROM receiver.bodies AS body WHERE body.delivery_id = member.delivery_id) AS has_body
    FROM receiver.replay_deliveries AS member
    WHERE member.replay_id = %(replay_id)s AND member.outcome IS NULL AND member.queued_at IS NULL AND NOT EXISTS (
        SELECT FROM receiver.queue AS taken WHERE taken.delivery_id = member.delivery_id AND taken.leased_until IS NOT NULL
    )
    ORDER BY member.delivery_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), waiting AS (
    UPDATE receiver.queue AS queued SET due_at = now(), alone = chosen.alone, failed_at = NULL
    FROM chosen
    WHERE queued.delivery_id = chosen.delivery_id AND queued.delivery_id = ANY (ARRAY(
        SELECT delivery_id FROM receiver.queue
        WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM chosen WHERE has_body)) AND leased_until IS NULL
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING queued.delivery_id
), added AS (
    INSERT INTO receiver.queue (delivery_id, attempts, alone)
    SELECT chosen.delivery_id, outcome.attempts, chosen.alone
    FROM chosen JOIN receiver.outcomes AS outcome ON outcome.delivery_id = chosen.delivery_id
    WHERE chosen.has_body
        AND NOT EXISTS (SELECT FROM receiver.queue AS queued WHERE queued.delivery_id = chosen.delivery_id)
    ORDER BY chosen.delivery_id
    ON CONFLICT (delivery_id) DO NOTHING
    RETURNING delivery_id
), queued AS MATERIALIZED (
    SELECT delivery_id FROM waiting UNION ALL SELECT delivery_id FROM added
), counted AS (
    UPDATE receiver.outcomes SET attempts_before_replay = attempts
    WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM queued))
), noted AS (
    UPDATE receiver.replay_deliveries AS member
    SET queued_at = CASE WHEN chosen.has_body THEN clock_timestamp() END,
        completed_at = CASE WHEN NOT chosen.has_body THEN clock_timestamp() END,
        outcome = CASE WHEN NOT chosen.has_body THEN %(without_body)s END
    FROM chosen
    WHERE member.replay_id = %(replay_id)s AND member.delivery_id = chosen.delivery_id
        AND (NOT chosen.has_body OR chosen.delivery_id = ANY (ARRAY(SELECT delivery_id FROM queued)))
    RETURNING member.delivery_id
)
SELECT count(*) FROM noted
