CREATE INDEX ix_transactions_invoice_number ON ems.transactions (organization_reference_id, invoice_number) WHERE invoice_number IS NOT NULL;

CREATE OR REPLACE VIEW ems.invoice_control AS
SELECT
    invoice.organization_reference_id,
    invoice.id AS invoice_id,
    invoice.invoice_number,
    invoice.invoice_date,
    invoice.no_of_transactions,
    booked.number AS booked_transactions,
    invoice.invoice_amount,
    invoice.invoice_currency,
    booked.amount AS booked_amount,
    booked.number_in_other_currencies AS transactions_in_other_currencies,
    coalesce(invoice.invoice_amount, 0) - booked.amount AS difference,
    invoice.no_of_transactions IS NOT DISTINCT FROM booked.number
        AND invoice.invoice_amount IS NOT DISTINCT FROM booked.amount
        AND booked.number_in_other_currencies = 0 AS agrees
FROM ems.invoices AS invoice
CROSS JOIN LATERAL (
    SELECT count(*) AS number,
        coalesce(sum(t.accounting_amount) FILTER (
            WHERE t.accounting_currency = invoice.invoice_currency
        ), 0) AS amount,
        count(*) FILTER (
            WHERE t.accounting_currency IS DISTINCT FROM invoice.invoice_currency
        ) AS number_in_other_currencies
    FROM ems.transactions AS t
    WHERE t.organization_reference_id = invoice.organization_reference_id
        AND t.invoice_number = invoice.invoice_number AND t.state = 'invoiced'
) AS booked;

COMMENT ON VIEW ems.invoice_control IS 'The issuer''s invoices compared with the ledger: number and amount of the transactions as the invoice reports them (invoice.created), and of the purchases in state invoiced with its invoice_number. Empty until OpenCard sends invoice.created, which is announced and not live yet.';
COMMENT ON COLUMN ems.invoice_control.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.invoice_control.invoice_id IS 'OpenCard''s id of the invoice (ems.invoices.id)';
COMMENT ON COLUMN ems.invoice_control.invoice_number IS 'Number of the invoice; null when not reported, and then no purchase is found for it';
COMMENT ON COLUMN ems.invoice_control.invoice_date IS 'Date of the invoice, a day without a zone; null when not reported';
COMMENT ON COLUMN ems.invoice_control.no_of_transactions IS 'Number of transactions on the invoice, as reported; null when not reported';
COMMENT ON COLUMN ems.invoice_control.booked_transactions IS 'Number of purchases in state invoiced with this invoice_number; 0 if none';
COMMENT ON COLUMN ems.invoice_control.invoice_amount IS 'Amount of the invoice, in major units of invoice_currency; null when not reported';
COMMENT ON COLUMN ems.invoice_control.invoice_currency IS 'Currency of the invoice (ISO 4217); null when not reported';
COMMENT ON COLUMN ems.invoice_control.booked_amount IS 'Sum of their accounting_amount in invoice_currency, in major units; 0 if none';
COMMENT ON COLUMN ems.invoice_control.transactions_in_other_currencies IS 'Number of them with another accounting_currency, or with none';
COMMENT ON COLUMN ems.invoice_control.difference IS 'invoice_amount (0 if not reported) minus booked_amount, in major units of invoice_currency';
COMMENT ON COLUMN ems.invoice_control.agrees IS 'Whether number and amount are equal, and every purchase is in invoice_currency';
