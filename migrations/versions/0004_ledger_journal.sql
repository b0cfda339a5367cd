CREATE TABLE ems.ledger_journal (
    position BIGINT NOT NULL,
    line INTEGER NOT NULL,
    organization_reference_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    sign SMALLINT NOT NULL,
    changed TEXT[],
    booked_on DATE NOT NULL,
    card_holder_reference_id TEXT NOT NULL,
    original_amount NUMERIC,
    original_currency TEXT,
    accounting_amount NUMERIC,
    accounting_currency TEXT,
    vat_amount NUMERIC,
    vat_currency TEXT,
    vat_source TEXT,
    receipt_state TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_ledger_journal PRIMARY KEY (position, line),
    CONSTRAINT ck_ledger_journal_kind CHECK (kind IN ('booking', 'reversal', 'correction')),
    CONSTRAINT ck_ledger_journal_sign CHECK (sign = CASE kind WHEN 'reversal' THEN -1 ELSE 1 END)
);
CREATE INDEX ix_ledger_journal_transaction ON ems.ledger_journal (organization_reference_id, transaction_id, position, line);
CREATE INDEX ix_ledger_journal_booked_on ON ems.ledger_journal (organization_reference_id, booked_on);

COMMENT ON TABLE ems.ledger_journal IS 'Every change of ems.ledger (day, amounts, currencies, VAT, card holder, state of the receipt), as a reversal of the previous line and a new line. Lines are only added; none changes later, except that the reference of an erased card holder is replaced. The amounts of all lines up to a position add up to the ledger at that position, and the signs to its number of lines. Several events of a purchase that were applied together are one change.';
COMMENT ON COLUMN ems.ledger_journal.position IS 'Position in ems.events of the event that changed the line; of several applied together, the last';
COMMENT ON COLUMN ems.ledger_journal.line IS 'Number of the line at its position, from 1';
COMMENT ON COLUMN ems.ledger_journal.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.ledger_journal.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.ledger_journal.kind IS 'booking: the first line of a purchase; reversal: cancels the previous line; correction: the new line instead of it, for example when a cleared amount turned negative';
COMMENT ON COLUMN ems.ledger_journal.sign IS '-1 for a reversal, else 1; the sum is the number of lines in the ledger';
COMMENT ON COLUMN ems.ledger_journal.changed IS 'Columns of a correction that differ from the reversed line; null for bookings and reversals, and for a purchase that returns to the ledger';
COMMENT ON COLUMN ems.ledger_journal.booked_on IS 'The line''s booked_on in the ledger, a day without a zone; a reversal has that of the line it reverses';
COMMENT ON COLUMN ems.ledger_journal.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id)';
COMMENT ON COLUMN ems.ledger_journal.original_amount IS 'The line''s original_amount in the ledger, in major units, negated in a reversal; null when not reported';
COMMENT ON COLUMN ems.ledger_journal.original_currency IS 'Currency of the purchase (ISO 4217); null when not reported';
COMMENT ON COLUMN ems.ledger_journal.accounting_amount IS 'The line''s accounting_amount in the ledger, in major units, negated in a reversal; null when not reported';
COMMENT ON COLUMN ems.ledger_journal.accounting_currency IS 'The customer''s home currency (ISO 4217); null when not reported';
COMMENT ON COLUMN ems.ledger_journal.vat_amount IS 'The line''s vat_amount in the ledger, in major units, negated in a reversal; null when none was reported';
COMMENT ON COLUMN ems.ledger_journal.vat_currency IS 'Currency of vat_amount (ISO 4217); null when no VAT was reported';
COMMENT ON COLUMN ems.ledger_journal.vat_source IS 'merchant or network, as in the ledger; null when no VAT was reported';
COMMENT ON COLUMN ems.ledger_journal.receipt_state IS 'none, reported or stored, as in the ledger';
COMMENT ON COLUMN ems.ledger_journal.recorded_at IS 'When the line was written, in UTC';

-- What the ledger has now, each purchase at the position of its newest event.

INSERT INTO ems.ledger_journal (
    position, line, organization_reference_id, transaction_id, kind, sign, booked_on, card_holder_reference_id,
    original_amount, original_currency, accounting_amount, accounting_currency, vat_amount, vat_currency, vat_source,
    receipt_state, recorded_at
)
SELECT known.position, row_number() OVER (PARTITION BY known.position ORDER BY organization_reference_id, transaction_id),
    organization_reference_id, transaction_id, 'booking', 1, booked_on, card_holder_reference_id, original_amount,
    original_currency, accounting_amount, accounting_currency, vat_amount, vat_currency, vat_source, receipt_state,
    clock_timestamp()
FROM ems.ledger AS booked
CROSS JOIN LATERAL (
    SELECT coalesce(max(event.position), 0) AS position FROM ems.events AS event
    WHERE event.organization_reference_id = booked.organization_reference_id
        AND event.subject_id = booked.transaction_id
) AS known;

-- Lines are only added. The reference of a card holder who is erased is replaced.

CREATE FUNCTION receiver.keep_journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        old.card_holder_reference_id := new.card_holder_reference_id;
        IF new IS NOT DISTINCT FROM old THEN
            RETURN new;
        END IF;
    END IF;
    RAISE EXCEPTION 'lines of ems.ledger_journal are neither changed nor deleted: what is wrong is reversed by a new line';
END
$$;

CREATE TRIGGER keep_journal BEFORE UPDATE OR DELETE ON ems.ledger_journal
FOR EACH ROW EXECUTE FUNCTION receiver.keep_journal();

CREATE FUNCTION ems.ledger_as_of(through bigint) RETURNS TABLE (
    organization_reference_id text, transaction_id text, booked_on date, card_holder_reference_id text,
    original_amount numeric, original_currency text, accounting_amount numeric, accounting_currency text,
    vat_amount numeric, vat_currency text, vat_source text, receipt_state text, "position" bigint
) LANGUAGE sql STABLE AS $$
    SELECT last.organization_reference_id, last.transaction_id, last.booked_on, last.card_holder_reference_id,
        last.original_amount, last.original_currency, last.accounting_amount, last.accounting_currency,
        last.vat_amount, last.vat_currency, last.vat_source, last.receipt_state, last.position
    FROM (
        SELECT DISTINCT ON (line.organization_reference_id, line.transaction_id) line.*
        FROM ems.ledger_journal AS line
        WHERE line.position <= $1
        ORDER BY line.organization_reference_id, line.transaction_id, line.position DESC, line.line DESC
    ) AS last
    WHERE last.sign = 1
$$;

COMMENT ON FUNCTION ems.ledger_as_of(bigint) IS 'The ledger as it was at a position of the feed: one row for each purchase, with the columns of the journal; position is that of its last change.';
