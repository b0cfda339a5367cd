-- The events of some subjects. LATERAL with OFFSET 0: one look into an index for each subject, however the event log grows.
-- Of a card holder's many events only the references are needed. Above 2,000 bytes (compressed) a payload is stored
-- outside the row: its size is known without reading it, and the references are taken from columns.
SELECT subject.number, event.retracted_at IS NOT NULL AS retracted, event.position, event.type, event.organization_reference_id, event.card_holder_reference_id,
    event.transaction_id, event.subject_id, event.occurred_at, event.source, event.delivery_id, event.fingerprint,
    CASE WHEN subject.kind = 'card_holder' AND pg_column_size(event.payload) > 2000 THEN jsonb_build_object(
        'card_holder', jsonb_build_object('reference_id', event.card_holder_reference_id),
        'organization', jsonb_build_object('reference_id', event.organization_reference_id)
    ) ELSE event.payload END::text AS payload
FROM ROWS FROM (
    json_to_recordset(CAST(%(subjects)s AS json)) AS (kind text, organization text, id text)
) WITH ORDINALITY AS subject (kind, organization, id, number)
CROSS JOIN LATERAL (
    SELECT * FROM ems.events AS logged
    WHERE logged.organization_reference_id = subject.organization AND logged.subject_id = subject.id
        AND CAST(%(types)s AS jsonb) -> subject.kind ? logged.type
    OFFSET 0
) AS event
