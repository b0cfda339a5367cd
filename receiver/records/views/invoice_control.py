"""The view ``ems.invoice_control``: the issuer's invoices compared with what was booked for them."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

INVOICE_CONTROL: Final = v.View(
    name="invoice_control",
    comment="Each invoice of the issuer: number and amount of its transactions as the invoice says (invoice.created), "
    "beside those of the invoiced transactions in the ledger that have its invoice_number.",
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
) AS booked
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "invoice_id": "OpenCard's id of the invoice (ems.invoices.id)",
        "invoice_number": "Number of the invoice; null when not reported: then no transaction belongs to it",
        "invoice_date": "Date of the invoice, a day without a zone; null when not reported",
        "no_of_transactions": "How many transactions it bills, as the invoice says; null when not reported",
        "booked_transactions": "How many invoiced transactions have its number; 0 without any",
        "invoice_amount": "Amount of the invoice, in major units of invoice_currency; null when not reported",
        "invoice_currency": "Currency of the invoice (ISO 4217); null when not reported",
        "booked_amount": "accounting_amount of those in invoice_currency added up, in major units; 0 without any",
        "transactions_in_other_currencies": "How many of them are booked in another currency, or in none",
        "difference": "invoice_amount, 0 if not reported, less booked_amount, in major units",
        "agrees": "Whether number and amount are equal, and all are in the invoice's currency",
    },
)
