-- Makes the rows of some subjects what is given: what is not given is deleted, and what would stay as it is is left alone.
WITH given AS MATERIALIZED (
    SELECT * FROM json_populate_recordset(CAST(NULL AS $table), CAST(current_setting('receiver.$rows') AS json))
), removed AS (
    DELETE FROM $table AS stored
    USING json_to_recordset(CAST(current_setting('receiver.subjects') AS json)) AS subject (
        organization text, id text, tables text[]
    )
    WHERE '$table' = ANY (subject.tables)
        AND stored.organization_reference_id = subject.organization AND stored.$subject = subject.id
        AND NOT EXISTS (SELECT FROM given WHERE $same_key)
)
INSERT INTO $table AS stored ($columns)
SELECT $values FROM given ORDER BY $key
ON CONFLICT ($key) DO UPDATE SET $assignments
WHERE ($stored) IS DISTINCT FROM ($excluded)
