SELECT position, type, organization_reference_id, card_holder_reference_id, transaction_id, subject_id, occurred_at,
    source, delivery_id, fingerprint, payload::text
FROM ems.events WHERE position = ANY(%s)
