-- Notes attempts that applied nothing: what failed is queued again, to be tried alone; the rest leaves the queue.
WITH passed AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(%(rows)s AS json)) AS passed (
        delivery_id bigint, status text, attempts integer, attempts_before_replay integer, error text, trace text,
        pause double precision, transaction_id text, card_holder_reference_id text
    )
), noted AS (
    INSERT INTO receiver.outcomes AS stored (
        delivery_id, status, attempts, attempts_before_replay, processed_at, error, transaction_id,
        card_holder_reference_id
    )
    SELECT delivery_id, status, attempts, attempts_before_replay,
        CASE WHEN status <> 'failed' THEN clock_timestamp() END, error, transaction_id, card_holder_reference_id
    FROM passed
    ON CONFLICT (delivery_id) DO UPDATE SET status = excluded.status, attempts = excluded.attempts,
        attempts_before_replay = excluded.attempts_before_replay, processed_at = excluded.processed_at,
        error = excluded.error, transaction_id = coalesce(excluded.transaction_id, stored.transaction_id),
        card_holder_reference_id = coalesce(excluded.card_holder_reference_id, stored.card_holder_reference_id)
), again AS (
    INSERT INTO receiver.queue AS queued (delivery_id, due_at, failed_at, attempts, alone)
    SELECT delivery_id, clock_timestamp() + make_interval(secs => pause), clock_timestamp(), attempts, true
    FROM passed WHERE status = 'failed'
    ON CONFLICT (delivery_id) DO UPDATE
    SET due_at = excluded.due_at, failed_at = excluded.failed_at, attempts = excluded.attempts, alone = true,
        leased_until = NULL
), ended AS (
    DELETE FROM receiver.queue
    WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM passed WHERE status <> 'failed'))
)
INSERT INTO receiver.processing_attempts (delivery_id, number, attempted_at, outcome, error, trace)
SELECT delivery_id, attempts, clock_timestamp(), status, error, trace FROM passed
