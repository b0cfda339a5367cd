-- The rows of some subjects of one organization that are not what they are to be: what is stored, and what is expected.
WITH expected AS MATERIALIZED (
    SELECT $expected FROM $source
), present AS MATERIALIZED (
    SELECT $columns FROM $table AS stored
    WHERE stored.organization_reference_id = %(organization)s AND stored.$subject > %(after)s
        AND (CAST(%(until)s AS text) IS NULL OR stored.$subject <= %(until)s)
)
SELECT to_jsonb(present)::text, to_jsonb(expected)::text
FROM expected FULL JOIN present ON $same_key
WHERE expected.$key IS NULL OR present.$key IS NULL OR ($wanted) IS DISTINCT FROM ($present)
