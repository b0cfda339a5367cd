"""The view ``ems.invoice_control``: invoice reconciliation, the issuer's invoices compared with the ledger."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

INVOICE_CONTROL: Final = v.View(
    name="invoice_control",
    comment="Invoice reconciliation: the issuer's invoices compared with the ledger, number and amount of the "
    "transactions as the invoice reports them (invoice.created), and of the transactions in state invoiced with its "
    "invoice_number. An invoice names no issuer, so two invoices of an organization with one number count the same "
    "transactions. Empty until OpenCard sends invoice.created, which it has announced and does not send yet.",
    query="""
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
    invoice.invoice_amount - booked.amount AS difference,
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
) AS booked
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "invoice_id": "OpenCard's id of the invoice (ems.invoices.id)",
        "invoice_number": "Number of the invoice; null when not reported, and then no transaction is found for it",
        "invoice_date": "Date of the invoice, a day without a zone; null when not reported",
        "no_of_transactions": "Number of transactions on the invoice, as reported; null when not reported",
        "booked_transactions": "Number of transactions in state invoiced with this invoice_number; 0 if none",
        "invoice_amount": "Amount of the invoice, in major units of invoice_currency; fees, payments and the sign of a "
        "credit note are not documented by OpenCard; null when not reported",
        "invoice_currency": "Currency of the invoice, as sent, normally ISO 4217; null when not reported",
        "booked_amount": "Net sum of their accounting_amount in invoice_currency, in major units; 0 if none",
        "transactions_in_other_currencies": "Number of them with another accounting_currency, or with none",
        "difference": "invoice_amount minus booked_amount, in major units of invoice_currency: positive if more was "
        "billed than is in the ledger; null when no invoice_amount was reported",
        "agrees": "Whether number and amount are equal, and every transaction is in invoice_currency",
    },
)
