-- Stores the outcomes of the deliveries that replays had queued. One that failed again is retried like any other.
WITH done AS MATERIALIZED (
    SELECT member.replay_id, member.delivery_id, outcome.status
    FROM receiver.replay_deliveries AS member
    JOIN receiver.outcomes AS outcome ON outcome.delivery_id = member.delivery_id
    LEFT JOIN receiver.queue AS queued ON queued.delivery_id = member.delivery_id
    WHERE member.queued_at IS NOT NULL AND member.outcome IS NULL AND (
        queued.delivery_id IS NULL OR outcome.status = 'failed' AND outcome.attempts > outcome.attempts_before_replay
    )
    FOR UPDATE OF member SKIP LOCKED
)
UPDATE receiver.replay_deliveries AS member SET outcome = done.status, completed_at = clock_timestamp()
FROM done WHERE member.replay_id = done.replay_id AND member.delivery_id = done.delivery_id
