-- The deliveries of a slice that brought an event and still have their bodies, each with that event as the event log has it.
SELECT stored.id, webhook.organization_reference_id, stored.event, stored.version, body.body, stored.source,
    coalesce(confirmation.occurred_at, stored.occurred_at), outcome.position, event.position AS logged, event.type,
    event.organization_reference_id, event.card_holder_reference_id, event.transaction_id, event.subject_id,
    event.occurred_at, event.source, event.delivery_id, event.fingerprint, event.payload::text
FROM receiver.stored_deliveries AS stored
JOIN receiver.webhooks AS webhook ON webhook.id = stored.webhook_id
JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id AND outcome.status = 'processed'
JOIN receiver.bodies AS body ON body.delivery_id = stored.id
LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
LEFT JOIN ems.events AS event ON event.position = outcome.position
WHERE stored.id > %(after)s AND stored.id <= %(until)s
    AND (CAST(%(organizations)s AS text[]) IS NULL
        OR webhook.organization_reference_id = ANY(CAST(%(organizations)s AS text[])))
    AND NOT EXISTS (SELECT FROM receiver.queue AS queued WHERE queued.delivery_id = stored.id)
ORDER BY stored.id
