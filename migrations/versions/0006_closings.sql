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

COMMENT ON TABLE ems.closings IS 'Months that an operator closed (receiver close), and what the ledger contained then. A month is closed once; later changes of it are in ems.late_changes.';
COMMENT ON COLUMN ems.closings.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.closings.month IS 'First day of the month, without a zone; the lines of a month are those with a booked_on in it';
COMMENT ON COLUMN ems.closings.closed_at IS 'When it was closed, in UTC';
COMMENT ON COLUMN ems.closings.closed_by IS 'Who closed it: user and host of the command';
COMMENT ON COLUMN ems.closings.complete_through IS 'complete_through of ems.completeness when it was closed, in UTC: everything that OpenCard sent until then was applied';
COMMENT ON COLUMN ems.closings.acknowledged_gaps IS 'Number of missing events of the organization that an operator had acknowledged; 0 if none';
COMMENT ON COLUMN ems.closings.position IS 'Newest position of the feed when it was closed; ems.ledger_as_of(position) is the ledger at that time';
COMMENT ON COLUMN ems.closings.lines IS 'Number of lines that the ledger had in the month';
COMMENT ON COLUMN ems.closings.sums IS 'Sum of accounting_amount of these lines by accounting_currency; exact, as strings; an empty key for lines without a currency';
COMMENT ON COLUMN ems.closings.vat_sums IS 'Sum of vat_amount of these lines by vat_currency, in the same form';
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

COMMENT ON VIEW ems.late_changes IS 'Each change of a month after it was closed, from the journal: the line before and after the change. A line that moves from one closed month to another is listed in both.';
COMMENT ON COLUMN ems.late_changes.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.late_changes.month IS 'First day of the closed month, without a zone (ems.closings.month)';
COMMENT ON COLUMN ems.late_changes.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.late_changes.position IS 'Position in ems.events of the event that changed the line; higher than that of the closing';
COMMENT ON COLUMN ems.late_changes.changed_at IS 'When it was booked in the journal, in UTC';
COMMENT ON COLUMN ems.late_changes.kind IS 'added: a line was added to the month; removed: a line left it; changed: a line in it changed';
COMMENT ON COLUMN ems.late_changes.changed IS 'Columns that differ; null for a line that is new in the ledger or left it';
COMMENT ON COLUMN ems.late_changes.booked_on_before IS 'booked_on before the change, without a zone; null if there was no line';
COMMENT ON COLUMN ems.late_changes.booked_on_after IS 'booked_on after the change, without a zone; null if there is no line';
COMMENT ON COLUMN ems.late_changes.card_holder_reference_id_before IS 'The EMS''s own id of the card holder before; null if there was no line';
COMMENT ON COLUMN ems.late_changes.card_holder_reference_id_after IS 'The EMS''s own id of the card holder after; null if there is no line';
COMMENT ON COLUMN ems.late_changes.original_amount_before IS 'Amount in the currency of the purchase, in major units, before; null when not reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.original_amount_after IS 'The same after; null when not reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.original_currency_before IS 'Currency of this amount (ISO 4217) before; null in the same cases';
COMMENT ON COLUMN ems.late_changes.original_currency_after IS 'Currency of this amount (ISO 4217) after; null in the same cases';
COMMENT ON COLUMN ems.late_changes.accounting_amount_before IS 'Amount in the customer''s home currency, in major units, before; null when not reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.accounting_amount_after IS 'The same after; null when not reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.accounting_currency_before IS 'Currency of this amount (ISO 4217) before; null in the same cases';
COMMENT ON COLUMN ems.late_changes.accounting_currency_after IS 'Currency of this amount (ISO 4217) after; null in the same cases';
COMMENT ON COLUMN ems.late_changes.vat_amount_before IS 'VAT in major units before; null when none was reported, and if there was no line';
COMMENT ON COLUMN ems.late_changes.vat_amount_after IS 'VAT in major units after; null when none was reported, and if there is no line';
COMMENT ON COLUMN ems.late_changes.vat_currency_before IS 'Currency of this amount (ISO 4217) before; null in the same cases';
COMMENT ON COLUMN ems.late_changes.vat_currency_after IS 'Currency of this amount (ISO 4217) after; null in the same cases';
COMMENT ON COLUMN ems.late_changes.receipt_state_before IS 'none, reported or stored, before; null if there was no line';
COMMENT ON COLUMN ems.late_changes.receipt_state_after IS 'none, reported or stored, after; null if there is no line';
