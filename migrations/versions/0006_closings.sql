CREATE TABLE ems.closings (
    organization_reference_id TEXT NOT NULL,
    month DATE NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    closed_by TEXT NOT NULL,
    complete_through TIMESTAMP WITH TIME ZONE NOT NULL,
    acknowledged_gaps BIGINT NOT NULL,
    position BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    sums JSONB NOT NULL,
    vat_sums JSONB NOT NULL,
    sha256 TEXT NOT NULL,
    CONSTRAINT pk_closings PRIMARY KEY (organization_reference_id, month)
);

COMMENT ON TABLE ems.closings IS 'Months of organizations that were closed (receiver close): what the ledger had then. A month is closed once; what changes in it later is in late_changes.';
COMMENT ON COLUMN ems.closings.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.closings.month IS 'First day of the month, without a zone; its lines are those whose booked_on is in it';
COMMENT ON COLUMN ems.closings.closed_at IS 'When it was closed, in UTC';
COMMENT ON COLUMN ems.closings.closed_by IS 'Who closed it: user and host of the command';
COMMENT ON COLUMN ems.closings.complete_through IS 'Everything that OpenCard sent until then, in UTC, was here and applied, as ems.completeness said';
COMMENT ON COLUMN ems.closings.acknowledged_gaps IS 'How many events of the organization an operator had acknowledged as missing; 0 without any';
COMMENT ON COLUMN ems.closings.position IS 'Newest position of the feed when it was closed: ems.ledger_as_of(position)';
COMMENT ON COLUMN ems.closings.lines IS 'How many lines the ledger had in the month';
COMMENT ON COLUMN ems.closings.sums IS 'accounting_amount of these lines, added up by accounting_currency; amounts as texts, exact; the currency is empty where none was reported';
COMMENT ON COLUMN ems.closings.vat_sums IS 'vat_amount of these lines, likewise by vat_currency';
COMMENT ON COLUMN ems.closings.sha256 IS 'SHA-256 of these lines, hexadecimal; receiver close --verify computes it again';

CREATE OR REPLACE VIEW ems.late_changes AS
SELECT
    closing.organization_reference_id,
    closing.month,
    line.transaction_id,
    line.position,
    line.recorded_at AS changed_at,
    CASE
        WHEN before.booked_on IS NULL OR NOT before.in_month THEN 'added'
        WHEN after.booked_on IS NULL OR NOT after.in_month THEN 'removed'
        ELSE 'changed'
    END AS kind,
    after.changed,
    before.booked_on AS booked_on_before,
    after.booked_on AS booked_on_after,
    before.card_holder_reference_id AS card_holder_reference_id_before,
    after.card_holder_reference_id AS card_holder_reference_id_after,
    -before.original_amount AS original_amount_before,
    after.original_amount AS original_amount_after,
    before.original_currency AS original_currency_before,
    after.original_currency AS original_currency_after,
    -before.accounting_amount AS accounting_amount_before,
    after.accounting_amount AS accounting_amount_after,
    before.accounting_currency AS accounting_currency_before,
    after.accounting_currency AS accounting_currency_after,
    -before.vat_amount AS vat_amount_before,
    after.vat_amount AS vat_amount_after,
    before.vat_currency AS vat_currency_before,
    after.vat_currency AS vat_currency_after,
    before.receipt_state AS receipt_state_before,
    after.receipt_state AS receipt_state_after
FROM ems.closings AS closing
JOIN ems.ledger_journal AS line
    ON line.organization_reference_id = closing.organization_reference_id
    AND line.booked_on >= closing.month AND line.booked_on < closing.month + interval '1 month'
    AND line.position > closing.position
LEFT JOIN LATERAL (
    SELECT old.*, old.booked_on >= closing.month AND old.booked_on < closing.month + interval '1 month' AS in_month
    FROM ems.ledger_journal AS old
    WHERE old.position = line.position AND old.line = CASE line.sign WHEN -1 THEN line.line ELSE line.line - 1 END
        AND old.organization_reference_id = line.organization_reference_id
        AND old.transaction_id = line.transaction_id AND old.sign = -1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT new.*, new.booked_on >= closing.month AND new.booked_on < closing.month + interval '1 month' AS in_month
    FROM ems.ledger_journal AS new
    WHERE new.position = line.position AND new.line = CASE line.sign WHEN 1 THEN line.line ELSE line.line + 1 END
        AND new.organization_reference_id = line.organization_reference_id
        AND new.transaction_id = line.transaction_id AND new.sign = 1
) AS after ON true
WHERE line.sign = -1 OR before.in_month IS NOT TRUE;

COMMENT ON VIEW ems.late_changes IS 'Each change of a line of a closed month after its closing, once, from the journal: the line before and the line after. A line that moves from one closed month to another is in both.';
COMMENT ON COLUMN ems.late_changes.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.late_changes.month IS 'First day of the closed month, without a zone (ems.closings.month)';
COMMENT ON COLUMN ems.late_changes.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.late_changes.position IS 'Position in ems.events of what changed the line; higher than that of the closing';
COMMENT ON COLUMN ems.late_changes.changed_at IS 'When it was booked in the journal, in UTC';
COMMENT ON COLUMN ems.late_changes.kind IS 'added: the month has a line more; removed: a line less; changed: a line that is another now';
COMMENT ON COLUMN ems.late_changes.changed IS 'Which columns differ; null where a line was only added or removed';
COMMENT ON COLUMN ems.late_changes.booked_on_before IS 'The line''s day before, without a zone; null where there was no line';
COMMENT ON COLUMN ems.late_changes.booked_on_after IS 'The line''s day after, without a zone; null where there is no line';
COMMENT ON COLUMN ems.late_changes.card_holder_reference_id_before IS 'The EMS''s own id of the card holder before; null where there was no line';
COMMENT ON COLUMN ems.late_changes.card_holder_reference_id_after IS 'The EMS''s own id of the card holder after; null where there is no line';
COMMENT ON COLUMN ems.late_changes.original_amount_before IS 'Amount in the currency of the purchase, in major units, before; null when not reported, and where there was no line';
COMMENT ON COLUMN ems.late_changes.original_amount_after IS 'The same after; null when not reported, and where there is no line';
COMMENT ON COLUMN ems.late_changes.original_currency_before IS 'Its currency (ISO 4217) before; null likewise';
COMMENT ON COLUMN ems.late_changes.original_currency_after IS 'Its currency (ISO 4217) after; null likewise';
COMMENT ON COLUMN ems.late_changes.accounting_amount_before IS 'Amount in the customer''s home currency, in major units, before; null when not reported, and where there was no line';
COMMENT ON COLUMN ems.late_changes.accounting_amount_after IS 'The same after; null when not reported, and where there is no line';
COMMENT ON COLUMN ems.late_changes.accounting_currency_before IS 'Its currency (ISO 4217) before; null likewise';
COMMENT ON COLUMN ems.late_changes.accounting_currency_after IS 'Its currency (ISO 4217) after; null likewise';
COMMENT ON COLUMN ems.late_changes.vat_amount_before IS 'VAT in major units before; null when none was reported, and where there was no line';
COMMENT ON COLUMN ems.late_changes.vat_amount_after IS 'VAT in major units after; null when none was reported, and where there is no line';
COMMENT ON COLUMN ems.late_changes.vat_currency_before IS 'Its currency (ISO 4217) before; null likewise';
COMMENT ON COLUMN ems.late_changes.vat_currency_after IS 'Its currency (ISO 4217) after; null likewise';
COMMENT ON COLUMN ems.late_changes.receipt_state_before IS 'none, reported or stored, before; null where there was no line';
COMMENT ON COLUMN ems.late_changes.receipt_state_after IS 'none, reported or stored, after; null where there is no line';
