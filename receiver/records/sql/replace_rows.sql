-- Replaces the rows of some subjects by those passed in a setting: other rows of these subjects are deleted, and equal
-- rows are not written.
WITH passed AS MATERIALIZED (
    SELECT * FROM json_populate_recordset(CAST(NULL AS $table), CAST(current_setting('receiver.rows_of_$bare_name') AS json))
), removed AS (
    DELETE FROM $table AS stored
    USING json_to_recordset(CAST(current_setting('receiver.subjects_of_$bare_name') AS json)) AS subject (organization text, id text)
    WHERE stored.organization_reference_id = subject.organization AND stored.$subject = subject.id
        AND NOT EXISTS (SELECT FROM passed WHERE $same_key)
)
INSERT INTO $table AS stored ($columns)
SELECT $values FROM passed ORDER BY $key
ON CONFLICT ($key) DO UPDATE SET $assignments
WHERE ($stored) IS DISTINCT FROM ($excluded)
