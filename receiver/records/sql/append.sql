-- Appends events to the log, writes the current rows of transactions, and notes what became of deliveries. A body is
-- parsed once, for the log and for the row; its columns are read from it where no other fields are given.
WITH entry AS MATERIALIZED (
    SELECT given.*, coalesce(given.document, (
            SELECT CAST(convert_from(body.body, 'UTF8') AS jsonb) FROM receiver.bodies AS body
            WHERE body.delivery_id = given.delivery_id
        )) AS payload
    FROM ROWS FROM (
        json_to_recordset(CAST(current_setting('receiver.events') AS json)) AS (
            type text, organization_reference_id text, card_holder_reference_id text, transaction_id text,
            subject_id text, occurred_at timestamptz, source text, delivery_id bigint, fingerprint bytea, document jsonb
        )
    ) WITH ORDINALITY AS given
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
    SELECT given.*, field.*, derived.*
    FROM json_to_recordset(CAST(current_setting('receiver.transactions') AS json)) AS given (fields jsonb, $own)
    LEFT JOIN entry ON entry.delivery_id = given.delivery_id AND entry.fingerprint IS NOT NULL
    CROSS JOIN LATERAL (SELECT coalesce(given.fields, entry.payload) AS payload OFFSET 0) AS read
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
    SELECT given.delivery_id, given.status, coalesce(given.attempts, (
            SELECT attempts FROM receiver.outcomes AS before WHERE before.delivery_id = given.delivery_id
        ), 1), clock_timestamp(), NULL, coalesce(given.position, appended.position), given.fingerprint
    FROM json_to_recordset(CAST(current_setting('receiver.outcomes') AS json)) AS given (
        delivery_id bigint, status text, attempts integer, position bigint, brought_by bigint, fingerprint bytea
    )
    LEFT JOIN appended ON appended.delivery_id = given.brought_by AND appended.fingerprint IS NOT NULL
    ORDER BY given.delivery_id
    ON CONFLICT (delivery_id) DO UPDATE SET status = excluded.status,
        attempts = excluded.attempts, processed_at = excluded.processed_at, error = NULL,
        position = excluded.position, fingerprint = excluded.fingerprint, transaction_id = NULL,
        card_holder_reference_id = NULL
)
SELECT pg_notify('ems_events', CAST(max(position) AS text)) FROM appended HAVING count(*) > 0
