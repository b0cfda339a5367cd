-- Books in the journal what changed in the ledger by this transaction: the line before reversed, and the line as it is now.
WITH purchase AS MATERIALIZED (
    SELECT organization, id
    FROM json_to_recordset(CAST(current_setting('receiver.purchases') AS json)) AS given (organization text, id text)
), before AS MATERIALIZED (
    SELECT last.*
    FROM purchase CROSS JOIN LATERAL (
        SELECT * FROM ems.ledger_journal AS known
        WHERE known.organization_reference_id = purchase.organization AND known.transaction_id = purchase.id
        ORDER BY known.position DESC, known.line DESC LIMIT 1
    ) AS last
), after AS MATERIALIZED (
    SELECT booked.organization_reference_id, booked.transaction_id, $booked
    FROM purchase JOIN ems.ledger AS booked
        ON booked.organization_reference_id = purchase.organization AND booked.transaction_id = purchase.id
), change AS (
    SELECT purchase.organization, purchase.id, coalesce(
            (
                SELECT max(event.position) FROM ems.events AS event
                WHERE event.organization_reference_id = purchase.organization AND event.subject_id = purchase.id
            ),
            (SELECT max(position) FROM ems.events),
            0
        ) AS position,
        before.transaction_id IS NULL AS is_new, coalesce(before.sign = 1, false) AS was_booked,
        after.transaction_id IS NOT NULL AS is_booked,
        array_remove(ARRAY[$differing], NULL) AS changed
    FROM purchase
    LEFT JOIN before ON before.organization_reference_id = purchase.organization
        AND before.transaction_id = purchase.id
    LEFT JOIN after ON after.organization_reference_id = purchase.organization AND after.transaction_id = purchase.id
    WHERE coalesce(before.sign = 1, false) <> (after.transaction_id IS NOT NULL)
        OR before.sign = 1 AND ($before) IS DISTINCT FROM ($after)
), entry AS (
    SELECT change.position, change.organization, change.id, 'reversal' AS kind, -1 AS sign,
        CAST(NULL AS text[]) AS changed, $reversed
    FROM change JOIN before ON before.organization_reference_id = change.organization
        AND before.transaction_id = change.id
    WHERE change.was_booked
    UNION ALL
    SELECT change.position, change.organization, change.id, CASE WHEN change.is_new THEN 'booking' ELSE 'correction' END,
        1, CASE WHEN change.was_booked THEN change.changed END, $after
    FROM change JOIN after ON after.organization_reference_id = change.organization
        AND after.transaction_id = change.id
)
INSERT INTO ems.ledger_journal (
    position, line, organization_reference_id, transaction_id, kind, sign, changed, $columns, recorded_at
)
SELECT position, coalesce((SELECT max(line) FROM ems.ledger_journal AS there WHERE there.position = entry.position), 0)
        + row_number() OVER (PARTITION BY position ORDER BY organization, id, sign),
    organization, id, kind, sign, changed, $columns, clock_timestamp()
FROM entry ORDER BY position, organization, id, sign
