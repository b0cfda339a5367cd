CREATE TABLE ems.organizations (
    organization_reference_id TEXT NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_organizations PRIMARY KEY (organization_reference_id)
);

COMMENT ON TABLE ems.organizations IS 'The organizations that have or had a webhook of this service.';
COMMENT ON COLUMN ems.organizations.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.organizations.added_at IS 'When its first webhook was added, in UTC';

INSERT INTO ems.organizations (organization_reference_id, added_at)
SELECT organization_reference_id, min(created_at) FROM receiver.webhooks WHERE NOT test GROUP BY organization_reference_id;

CREATE FUNCTION receiver.note_organization() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ems.organizations (organization_reference_id, added_at)
    VALUES (new.organization_reference_id, clock_timestamp())
    ON CONFLICT (organization_reference_id) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_organization AFTER INSERT OR UPDATE OF organization_reference_id ON receiver.webhooks
FOR EACH ROW WHEN (NOT new.test) EXECUTE FUNCTION receiver.note_organization();

CREATE TABLE receiver.acknowledged_gaps (
    kind TEXT NOT NULL,
    id BIGINT NOT NULL,
    organization_reference_id TEXT NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE,
    acknowledged_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    acknowledged_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_acknowledged_gaps PRIMARY KEY (kind, id),
    CONSTRAINT ck_acknowledged_gaps_kind CHECK (kind IN ('delivery', 'log_entry'))
);
COMMENT ON COLUMN receiver.acknowledged_gaps.kind IS 'what is missing in ems: a delivery that was not applied, or an event of which the delivery log has no payload';
COMMENT ON COLUMN receiver.acknowledged_gaps.id IS 'of the delivery, or of the entry in receiver.delivery_log';
COMMENT ON COLUMN receiver.acknowledged_gaps.occurred_at IS 'when the event was first attempted; null where the log has no time';

-- What of an organization is not applied. Readers see it by ems.completeness alone: they have no rights on schema receiver.

CREATE FUNCTION receiver.gaps_of(organization text) RETURNS TABLE (
    kind text, id bigint, event text, status text, occurred_at timestamptz, acknowledged boolean
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    WITH webhook AS MATERIALIZED (
        SELECT webhook.id FROM receiver.webhooks AS webhook
        WHERE webhook.organization_reference_id = $1 AND NOT webhook.test
    ), held AS (
        SELECT outcome.delivery_id, outcome.status FROM receiver.outcomes AS outcome
        WHERE outcome.status IN ('failed', 'dead', 'quarantined')
            OR outcome.status = 'ignored' AND outcome.error IS DISTINCT FROM 'test delivery'
        UNION ALL
        SELECT queued.delivery_id, 'pending' FROM receiver.queue AS queued
        WHERE NOT EXISTS (
            SELECT FROM receiver.outcomes AS outcome WHERE outcome.delivery_id = queued.delivery_id
                AND outcome.status IN ('failed', 'dead', 'quarantined', 'ignored')
        )
    ), gap AS (
        SELECT 'log_entry' AS kind, entry.id, entry.event, 'unrecoverable' AS status, entry.attempted_at AS occurred_at
        FROM receiver.delivery_log AS entry JOIN webhook ON webhook.id = entry.webhook_id
        WHERE entry.unrecoverable
        UNION ALL
        SELECT 'delivery', stored.id, stored.event, held.status,
            coalesce(confirmation.occurred_at, stored.occurred_at)
        FROM held
        JOIN receiver.stored_deliveries AS stored ON stored.id = held.delivery_id
        JOIN webhook ON webhook.id = stored.webhook_id
        LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
        WHERE held.status <> 'ignored'
            OR stored.event LIKE 'card.transaction.%' OR stored.event LIKE 'transaction.%'
    )
    SELECT gap.kind, gap.id, gap.event, gap.status, gap.occurred_at, known.id IS NOT NULL
    FROM gap LEFT JOIN receiver.acknowledged_gaps AS known ON known.kind = gap.kind AND known.id = gap.id
$$;

CREATE FUNCTION receiver.completeness_of(
    organization text,
    OUT complete_through timestamptz, OUT open_gaps bigint, OUT acknowledged_gaps bigint, OUT checked_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT
        nullif(CASE WHEN checked.unchecked = 0 THEN least(checked.watermark, gaps.first - interval '1 microsecond') END,
            '-infinity'),
        gaps.open, gaps.acknowledged, checked.at
    FROM (
        SELECT count(*) FILTER (WHERE run.watermark IS NULL) + CASE WHEN count(*) = 0 THEN 1 ELSE 0 END AS unchecked,
            min(run.watermark) AS watermark, min(run.ended_at) AS at
        FROM receiver.webhooks AS webhook
        LEFT JOIN LATERAL (
            SELECT run.watermark, run.ended_at FROM receiver.reconcile_runs AS run
            WHERE run.webhook_id = webhook.id AND run.watermark IS NOT NULL
                AND run.id > (SELECT coalesce(max(epoch.last_run_id), 0) FROM receiver.feed_epochs AS epoch)
            ORDER BY run.started_at DESC LIMIT 1
        ) AS run ON true
        WHERE webhook.organization_reference_id = $1 AND NOT webhook.test AND webhook.deleted_at IS NULL
            AND webhook.opencard_webhook_id IS NOT NULL
    ) AS checked
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE NOT gap.acknowledged AND gap.status <> 'pending') AS open,
            count(*) FILTER (WHERE gap.acknowledged) AS acknowledged,
            min(coalesce(gap.occurred_at, '-infinity')) FILTER (WHERE NOT gap.acknowledged) AS first
        FROM receiver.gaps_of($1) AS gap
    ) AS gaps
$$;

CREATE OR REPLACE VIEW ems.completeness AS
SELECT
    organization.organization_reference_id,
    state.complete_through,
    state.open_gaps,
    state.checked_at,
    state.acknowledged_gaps
FROM ems.organizations AS organization
CROSS JOIN LATERAL receiver.completeness_of(organization.organization_reference_id) AS state;

COMMENT ON VIEW ems.completeness IS 'Until when each organization is complete, one row each: everything that OpenCard sent until then, according to its delivery log, is applied to these tables. Purchases of that time that OpenCard reports later are not included.';
COMMENT ON COLUMN ems.completeness.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.completeness.complete_through IS 'Everything that OpenCard sent until then, in UTC, is applied. Always before the first event that is missing or not applied yet, unless an operator acknowledged it; null until the delivery log of each webhook has been read from its beginning';
COMMENT ON COLUMN ems.completeness.open_gaps IS 'Number of events that are missing permanently or were not applied (failed, dead, quarantined, of an unknown version) and that no operator has acknowledged; 0 if none';
COMMENT ON COLUMN ems.completeness.checked_at IS 'When the delivery log was last read, in UTC; with several webhooks, the earliest of these times; null until then';
COMMENT ON COLUMN ems.completeness.acknowledged_gaps IS 'Number of such events that an operator acknowledged, so that they no longer hold back complete_through; 0 if none';
