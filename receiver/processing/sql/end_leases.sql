-- Takes back the leases that ended without an outcome: what was in a batch is tried alone from now on, and what was tried
-- alone has crashed its worker, or was left by one that hangs. A lease that began before PostgreSQL
-- last started, or ends later than a lease can (the clock was set back), is no sign of a crash.
WITH ended AS MATERIALIZED (
    SELECT delivery_id, alone, leased_until, leased_until < now() AND leased_until - CAST(%(lease)s AS interval)
        > pg_postmaster_start_time() AS to_blame
    FROM receiver.queue
    WHERE leased_until < now() OR leased_until > now() + 2 * CAST(%(lease)s AS interval)
    FOR UPDATE SKIP LOCKED
), noted AS (
    INSERT INTO receiver.worker_deaths (at, deliveries)
    SELECT leased_until, count(*) FROM ended WHERE to_blame GROUP BY leased_until
    ON CONFLICT DO NOTHING
)
UPDATE receiver.queue AS queued SET leased_until = NULL, alone = ended.alone OR ended.to_blame,
    due_at = least(queued.due_at, now()), failed_at = CASE WHEN ended.alone OR ended.to_blame THEN now() END,
    attempts = queued.attempts - CASE WHEN ended.alone AND ended.to_blame THEN 0 ELSE 1 END
FROM ended WHERE queued.delivery_id = ended.delivery_id
RETURNING queued.delivery_id, queued.attempts, ended.alone AND ended.to_blame AS crashed
