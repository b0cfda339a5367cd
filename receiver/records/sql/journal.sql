-- Appends to the journal each line of the ledger that this transaction changed: a reversal of the old line, then the new
-- line. LATERAL with OFFSET 0: each purchase is read by index, whatever table sizes the planner assumes.
INSERT INTO ems.ledger_journal (
    position, line, organization_reference_id, transaction_id, kind, sign, changed, $columns, recorded_at
)
SELECT newest.position,
    coalesce((SELECT max(line) FROM ems.ledger_journal AS there WHERE there.position = newest.position), 0)
        + row_number() OVER (PARTITION BY newest.position ORDER BY organization, id, entry.sign),
    organization, id, entry.kind, entry.sign, entry.changed, $entry, clock_timestamp()
FROM json_to_recordset(CAST(current_setting('receiver.purchases') AS json)) AS purchase (organization text, id text)
LEFT JOIN LATERAL (
    SELECT known.* FROM (
        SELECT * FROM ems.ledger_journal AS line
        WHERE line.organization_reference_id = organization AND line.transaction_id = id
        OFFSET 0
    ) AS known
    ORDER BY known.position DESC, known.line DESC LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT booked.transaction_id, $booked FROM ems.ledger AS booked
    WHERE booked.organization_reference_id = organization AND booked.transaction_id = id
    OFFSET 0
) AS after ON true
CROSS JOIN LATERAL (
    SELECT coalesce(
        (
            SELECT max(own.position) FROM (
                SELECT event.position FROM ems.events AS event
                WHERE event.organization_reference_id = organization AND event.subject_id = id
                OFFSET 0
            ) AS own
        ),
        (SELECT max(event.position) FROM ems.events AS event),
        0
    ) AS position
    OFFSET 0
) AS newest
CROSS JOIN LATERAL (
    SELECT 'reversal' AS kind, -1 AS sign, CAST(NULL AS text[]) AS changed, $reversed
    WHERE before.sign = 1
    UNION ALL
    SELECT CASE WHEN before.transaction_id IS NULL THEN 'booking' ELSE 'correction' END, 1,
        CASE WHEN before.sign = 1 THEN array_remove(ARRAY[$differing], NULL) END, $after
    WHERE after.transaction_id IS NOT NULL
) AS entry
WHERE coalesce(before.sign = 1, false) <> (after.transaction_id IS NOT NULL)
    OR before.sign = 1 AND ($before) IS DISTINCT FROM ($after)
ORDER BY newest.position, organization, id, entry.sign
