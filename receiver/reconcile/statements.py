"""The temporary tables of a run, and the statements that fill and compare them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

TABLES: Final = {
    # the entries, each once after ``deduplicate``; their times are of OpenCard's clock
    "log_read": {
        "number": "bigint",
        "identity": "bytea",
        "opencard_event_id": "text",
        "event": "text",
        "response_status": "integer",
        "attempted_at": "timestamptz",
        "fingerprint": "bytea",
        "item": "bytea",
        "payload_from": "integer",  # where the payload begins in the item, from 1
        "payload_bytes": "integer",
        "payload": "bytea",  # only if the item does not contain it byte for byte
        "about_erased": "boolean",
    },
    "log_stored": {
        "id": "bigint",
        "event": "text",
        "at": "timestamptz",
        "from_log": "boolean",
        "confirmed": "boolean",
        "arrived": "timestamptz",
        "fingerprint": "bytea",
    },
    # the result: entries that are missing or unrecoverable, deliveries that are confirmed, backdated or explained
    "log_found": {"finding": "text", "number": "bigint", "at": "timestamptz"},
}
CLEAR: Final = text(f"TRUNCATE {', '.join(f'pg_temp.{name}' for name in TABLES)}")

# Of entries with the same id only the one read last counts. Equal entries without ids count each, or once.
DEDUPLICATE: Final = text(
    """
WITH repeated AS (
    SELECT number, row_number() OVER (PARTITION BY identity ORDER BY number DESC) AS rank,
        opencard_event_id IS NULL AND NOT :merge_equal AS counts
    FROM pg_temp.log_read
    WHERE identity IN (SELECT identity FROM pg_temp.log_read GROUP BY identity HAVING count(*) > 1)
), merged AS (
    DELETE FROM pg_temp.log_read AS entry USING repeated
    WHERE entry.number = repeated.number AND rank > 1 AND NOT counts
)
UPDATE pg_temp.log_read AS entry SET identity = sha256(identity || int8send(rank)) FROM repeated
WHERE entry.number = repeated.number AND rank > 1 AND counts
"""
)
# enough to tell which plans fit
SMALL_SAMPLES: Final = text("SELECT set_config('default_statistics_target', '10', false)")
ANALYZE_READ: Final = text("ANALYZE pg_temp.log_read (number, identity, event, attempted_at, fingerprint)")
ANALYZE_STORED: Final = text("ANALYZE pg_temp.log_stored")
ANALYZE_FOUND: Final = text("ANALYZE pg_temp.log_found")
EXTENT: Final = text("SELECT count(*), min(attempted_at), bool_or(attempted_at IS NULL) FROM pg_temp.log_read")
_ACCEPTED: Final = "coalesce(response_status BETWEEN 200 AND 299, false)"
_FINGERPRINT: Final = "coalesce(outcome.fingerprint, event.fingerprint)"
_OCCURRED_AT: Final = "coalesce(confirmation.occurred_at, stored.occurred_at)"
# A retracted delivery is not compared: if the log has its event after all, the event is recovered.
_NOT_RETRACTED: Final = """
NOT EXISTS (
    SELECT FROM receiver.delivery_decisions AS decision
    WHERE decision.delivery_id = stored.id AND decision.decision = 'retracted'
)
"""
_STORED: Final = f"""
SELECT stored.id, stored.event, {{body}}{_OCCURRED_AT} AS occurred_at, stored.source = 'log',
    confirmation.confirmed_at IS NOT NULL, stored.received_at, {_FINGERPRINT}
FROM receiver.stored_deliveries AS stored
LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
LEFT JOIN ems.events AS event ON event.position = outcome.position
"""  # noqa: S608 - constants
_IN_THE_WINDOW: Final = f"""
stored.webhook_id = :webhook_id AND stored.received_at >= coalesce(CAST(:after AS timestamptz), '-infinity')
    AND (stored.source = 'push' OR {_OCCURRED_AT} >= coalesce(CAST(:after AS timestamptz), '-infinity'))
    AND {_NOT_RETRACTED}
"""
_BEFORE_THE_WINDOW: Final = f"""
stored.webhook_id = :webhook_id AND stored.received_at >= :after - CAST(:window AS interval)
    AND (stored.received_at < :after OR (stored.source = 'log' AND {_OCCURRED_AT} < :after))
    AND {_NOT_RETRACTED}
"""
LOAD_PROCESSED: Final = text(
    f"""
INSERT INTO pg_temp.log_stored {_STORED.format(body="")}
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_temp.log_stored AS loaded WHERE loaded.id = stored.id)
"""
)
UNPROCESSED: Final = text(
    f"""
{_STORED.format(body="body.body, ")} JOIN receiver.bodies AS body ON body.delivery_id = stored.id
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NULL
"""
)
# If what was stored before the window is sent again and fails, that is no new event.
_NEVER_ACCEPTED: Final = f"""
SELECT fingerprint, min(event) AS event, min(attempted_at) AS begun FROM pg_temp.log_read AS attempt
WHERE fingerprint IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_temp.log_stored AS stored WHERE stored.fingerprint = attempt.fingerprint)
GROUP BY fingerprint HAVING NOT bool_or({_ACCEPTED})
"""  # noqa: S608 - constants
ANY_NEVER_ACCEPTED: Final = text(f"SELECT EXISTS ({_NEVER_ACCEPTED})")
# A card holder may be created, deleted and created again: what OpenCard has sent with success, and sends again, is new.
_SENT_AGAIN: Final = """
attempt.event = ANY(:in_order) AND EXISTS (
    SELECT FROM receiver.delivery_log AS sent
    WHERE sent.webhook_id = :webhook_id AND sent.fingerprint = attempt.fingerprint
        AND sent.response_status BETWEEN 200 AND 299
)
"""
LOAD_OLDER: Final = text(
    f"""
INSERT INTO pg_temp.log_stored
SELECT known.* FROM ({_STORED.format(body="")} WHERE {_BEFORE_THE_WINDOW})
    AS known (id, event, at, from_log, confirmed, arrived, fingerprint)
JOIN ({_NEVER_ACCEPTED}) AS attempt ON attempt.fingerprint = known.fingerprint
WHERE known.at BETWEEN attempt.begun - CAST(:window AS interval)
    AND attempt.begun + CAST(:window AS interval) AND NOT ({_SENT_AGAIN})
"""  # noqa: S608 - likewise
)
# One pass instead of a join, whose plan would depend on estimates.
_TOGETHER: Final = f"""
SELECT fingerprint, event, number, attempted_at, {_ACCEPTED} AS accepted, CAST(NULL AS bigint) AS id,
    CAST(NULL AS timestamptz) AS at, CAST(NULL AS boolean) AS from_log, CAST(NULL AS boolean) AS confirmed,
    CAST(NULL AS timestamptz) AS arrived
FROM pg_temp.log_read WHERE fingerprint IS NOT NULL AND event <> :challenge
UNION ALL
SELECT fingerprint, NULL, NULL, NULL, NULL, id, at, from_log, confirmed, arrived FROM pg_temp.log_stored
"""  # noqa: S608 - constants
# An event that is once in the log and stored at most once needs no rule of ``compare``: it is stored, or missing.
# Such a pair also shows the difference of the clocks if it was pushed and accepted. The fastest deliveries measure it
# best, because latency looks like a clock that is behind; the 90th percentile leaves out a few outliers.
COMPARE_SINGLE: Final = text(
    f"""
WITH single AS MATERIALIZED (
    SELECT min(number) AS number, min(id) AS id, bool_or(from_log) AS from_log, bool_or(confirmed) AS confirmed,
        min(attempted_at) - min(arrived) AS ahead, bool_or(accepted) AS accepted
    FROM ({_TOGETHER}) AS one GROUP BY fingerprint HAVING count(number) = 1 AND count(id) <= 1
), found AS (
    INSERT INTO pg_temp.log_found
    SELECT CASE WHEN id IS NULL THEN 'missing' ELSE 'confirmed' END, coalesce(id, number) FROM single
    WHERE id IS NULL OR NOT (from_log OR confirmed)
)
SELECT count(id), percentile_disc(0.9) WITHIN GROUP (ORDER BY ahead) FILTER (WHERE accepted AND NOT from_log)
FROM single
"""  # noqa: S608 - constants
)
SEVERAL: Final = text(
    f"""
WITH together AS ({_TOGETHER}), several AS (
    SELECT fingerprint FROM together GROUP BY fingerprint
    HAVING count(number) > 1 OR (count(number) = 1 AND count(id) > 1)
)
SELECT min(event), array_agg(number) FILTER (WHERE number IS NOT NULL),
    array_agg(attempted_at - CAST(:clock_offset AS interval)) FILTER (WHERE number IS NOT NULL),
    array_agg(accepted) FILTER (WHERE number IS NOT NULL),
    array_agg(id) FILTER (WHERE id IS NOT NULL), array_agg(at) FILTER (WHERE id IS NOT NULL),
    array_agg(from_log) FILTER (WHERE id IS NOT NULL), array_agg(confirmed) FILTER (WHERE id IS NOT NULL),
    array_agg(arrived) FILTER (WHERE id IS NOT NULL)
FROM together WHERE fingerprint IN (SELECT fingerprint FROM several) GROUP BY fingerprint
"""  # noqa: S608 - constants
)
# The attempts explain as many stored deliveries as there are attempts, the oldest ones.
MARK_EXPLAINED: Final = text(
    """
INSERT INTO pg_temp.log_found
SELECT 'explained', placed.id
FROM (
    SELECT id, row_number() OVER (PARTITION BY fingerprint ORDER BY from_log DESC, at, id) AS rank, fingerprint
    FROM pg_temp.log_stored
) AS placed
JOIN (
    SELECT fingerprint, count(*) AS number FROM pg_temp.log_read
    WHERE fingerprint IS NOT NULL GROUP BY fingerprint
) AS attempts ON attempts.fingerprint = placed.fingerprint AND placed.rank <= attempts.number
"""
)
# Open ones of earlier runs are compared again, because a later attempt may close them. Their numbers are negative.
WITHOUT_PAYLOAD: Final = text(
    f"""
SELECT number, event, attempted_at - CAST(:clock_offset AS interval), {_ACCEPTED} FROM pg_temp.log_read
WHERE fingerprint IS NULL AND event <> :challenge
UNION ALL
SELECT -id, event, attempted_at - CAST(:clock_offset AS interval), {_ACCEPTED}
FROM receiver.delivery_log AS entry
WHERE webhook_id = :webhook_id AND unrecoverable AND (attempted_at IS NULL OR attempted_at >= :open_since)
    AND NOT EXISTS (SELECT FROM pg_temp.log_read AS attempt WHERE attempt.identity = entry.identity)
"""  # noqa: S608 - constants
)
UNEXPLAINED: Final = text(
    """
SELECT id, at, from_log, confirmed FROM pg_temp.log_stored AS stored
WHERE event = ANY(:events)
    AND NOT EXISTS (SELECT FROM pg_temp.log_found WHERE finding = 'explained' AND number = stored.id)
"""
)
