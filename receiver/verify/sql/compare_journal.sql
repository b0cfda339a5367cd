-- The purchases of one organization whose lines in the journal do not add up to their line in the ledger.
WITH expected AS MATERIALIZED (
    SELECT transaction_id, $ledger FROM ems.ledger
    WHERE organization_reference_id = %(organization)s AND transaction_id > %(after)s
        AND (CAST(%(until)s AS text) IS NULL OR transaction_id <= %(until)s)
), line AS MATERIALIZED (
    SELECT * FROM ems.ledger_journal
    WHERE organization_reference_id = %(organization)s AND transaction_id > %(after)s
        AND (CAST(%(until)s AS text) IS NULL OR transaction_id <= %(until)s)
), sums AS (
    SELECT transaction_id, $sums FROM line GROUP BY transaction_id
), present AS (
    SELECT last.transaction_id, $present
    FROM (SELECT DISTINCT ON (transaction_id) * FROM line ORDER BY transaction_id, position DESC, line DESC) AS last
    JOIN sums USING (transaction_id)
    WHERE sums.lines <> 0 OR last.sign = 1
)
SELECT to_jsonb(present)::text, to_jsonb(expected)::text
FROM expected FULL JOIN present USING (transaction_id)
WHERE expected.transaction_id IS NULL OR present.transaction_id IS NULL
    OR (1, $expected_columns) IS DISTINCT FROM (present.lines, $present_columns)
