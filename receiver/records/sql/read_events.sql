-- The events of some subjects. LATERAL with OFFSET 0: one look into an index for each subject, however the log grows.
SELECT subject.number, event.position, event.type, event.organization_reference_id, event.card_holder_reference_id,
    event.transaction_id, event.subject_id, event.occurred_at, event.source, event.delivery_id, event.fingerprint,
    event.payload::text AS payload
FROM unnest(CAST(%(kinds)s AS text[]), CAST(%(organizations)s AS text[]), CAST(%(ids)s AS text[]))
    WITH ORDINALITY AS subject (kind, organization, id, number)
CROSS JOIN LATERAL (
    SELECT * FROM ems.events AS logged
    WHERE logged.organization_reference_id = subject.organization AND logged.subject_id = subject.id
        AND CAST(%(types)s AS jsonb) -> subject.kind ? logged.type
    OFFSET 0
) AS event
