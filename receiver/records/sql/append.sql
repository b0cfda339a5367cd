-- Appends events to the event log (ems.events), writes rows of ems.transactions, and stores the outcomes of deliveries.
-- The settings receiver.events, receiver.transactions and receiver.outcomes have the rows (LogChange.settings). A body is
-- parsed once, for the event log and for the row; its columns are read from it where no other fields are passed.
WITH entry AS MATERIALIZED (
    SELECT passed.*, coalesce(passed.document, (
            SELECT CAST(convert_from(body.body, 'UTF8') AS jsonb) FROM receiver.bodies AS body
            WHERE body.delivery_id = passed.delivery_id
        )) AS payload
    FROM ROWS FROM (
        json_to_recordset(CAST(current_setting('receiver.events') AS json)) AS (
            type text, organization_reference_id text, card_holder_reference_id text, transaction_id text,
            subject_id text, occurred_at timestamptz, source text, delivery_id bigint, fingerprint bytea, document jsonb
        )
    ) WITH ORDINALITY AS passed
), appended AS (
    INSERT INTO ems.events (
        type, organization_reference_id, card_holder_reference_id, transaction_id, subject_id, occurred_at, recorded_at,
        source, delivery_id, fingerprint, payload
    )
    SELECT type, organization_reference_id, card_holder_reference_id, transaction_id, subject_id, occurred_at,
        clock_timestamp(), source, delivery_id, fingerprint, payload
    FROM entry ORDER BY ordinality
    RETURNING position, delivery_id, fingerprint
), purchase AS (
    SELECT passed.*, field.*, derived.*
    FROM json_to_recordset(CAST(current_setting('receiver.transactions') AS json)) AS passed (fields jsonb, $folded_columns)
    LEFT JOIN entry ON entry.delivery_id = passed.delivery_id AND entry.fingerprint IS NOT NULL
    CROSS JOIN LATERAL (SELECT coalesce(passed.fields, entry.payload) AS payload OFFSET 0) AS read
    $read_fields
), written AS (
    INSERT INTO ems.transactions AS stored ($columns, updated_at)
    SELECT $columns, clock_timestamp() FROM purchase ORDER BY organization_reference_id, id
    ON CONFLICT (organization_reference_id, id) DO UPDATE SET $assignments, updated_at = excluded.updated_at
    WHERE ($stored) IS DISTINCT FROM ($excluded)
), noted AS (
    INSERT INTO receiver.outcomes AS stored (
        delivery_id, status, attempts, processed_at, error, position, fingerprint
    )
    SELECT passed.delivery_id, passed.status, coalesce(passed.attempts, (
            SELECT attempts FROM receiver.outcomes AS before WHERE before.delivery_id = passed.delivery_id
        ), 1), clock_timestamp(), NULL, coalesce(passed.position, appended.position), passed.fingerprint
    FROM json_to_recordset(CAST(current_setting('receiver.outcomes') AS json)) AS passed (
        delivery_id bigint, status text, attempts integer, position bigint, first_delivery_id bigint, fingerprint bytea
    )
    LEFT JOIN appended ON appended.delivery_id = passed.first_delivery_id AND appended.fingerprint IS NOT NULL
    ORDER BY passed.delivery_id
    ON CONFLICT (delivery_id) DO UPDATE SET status = excluded.status,
        attempts = excluded.attempts, processed_at = excluded.processed_at, error = NULL,
        position = excluded.position, fingerprint = excluded.fingerprint, transaction_id = NULL,
        card_holder_reference_id = NULL
)
SELECT pg_notify('ems_events', CAST(max(position) AS text)) FROM appended HAVING count(*) > 0
