"""The view ``ems.late_changes``: what changed in a month after it was closed."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

LATE_CHANGES: Final = v.View(
    name="late_changes",
    comment="Each change of a month after it was closed, from the journal: the line before and after the change. A "
    "line that moves from one closed month to another is listed in both.",
    query="""
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
WHERE line.sign = -1 OR before.in_month IS NOT TRUE
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "month": "First day of the closed month, without a zone (ems.closings.month)",
        "transaction_id": v.TRANSACTION,
        "position": "Position in ems.events of the event that changed the line; higher than that of the closing",
        "changed_at": "When the change was written to the journal",
        "kind": "added: a line is new in the month; removed: a line left it; changed: a line in it changed. A line "
        "that moved is removed in the month of booked_on_before, and added in that of booked_on_after",
        "changed": "Columns that differ; null for a line that is new in the ledger or left it",
        "booked_on_before": "booked_on before the change, without a zone; null if there was no line",
        "booked_on_after": "booked_on after the change, without a zone; null if there is no line",
        "card_holder_reference_id_before": "The EMS's own id of the card holder before the change; null if there was "
        "no line",
        "card_holder_reference_id_after": "The EMS's own id of the card holder after the change; null if there is no "
        "line",
        "original_amount_before": "Amount in the currency of the purchase, in major units, sign as sent, before the "
        "change; null when not reported, and if there was no line",
        "original_amount_after": "Amount in the currency of the purchase, in major units, sign as sent, after the "
        "change; null when not reported, and if there is no line",
        "original_currency_before": "Currency of original_amount_before, as sent, normally ISO 4217; null when not "
        "reported, and if there was no line",
        "original_currency_after": "Currency of original_amount_after, as sent, normally ISO 4217; null when not "
        "reported, and if there is no line",
        "accounting_amount_before": "Amount in accounting_currency_before, in major units, sign as sent, before the "
        "change; null when not reported, and if there was no line",
        "accounting_amount_after": "Amount in accounting_currency_after, in major units, sign as sent, after the "
        "change; null when not reported, and if there is no line",
        "accounting_currency_before": "Currency of accounting_amount_before, as sent, normally ISO 4217; null when not "
        "reported, and if there was no line",
        "accounting_currency_after": "Currency of accounting_amount_after, as sent, normally ISO 4217; null when not "
        "reported, and if there is no line",
        "vat_amount_before": "VAT in the ledger, in major units of vat_currency_before, before the change; null when "
        "none was reported, and if there was no line",
        "vat_amount_after": "VAT in the ledger, in major units of vat_currency_after, after the change; null when none "
        "was reported, and if there is no line",
        "vat_currency_before": "Currency of vat_amount_before, as sent, normally ISO 4217; null when no VAT or no "
        "currency was reported, and if there was no line",
        "vat_currency_after": "Currency of vat_amount_after, as sent, normally ISO 4217; null when no VAT or no "
        "currency was reported, and if there is no line",
        "receipt_state_before": "none, reported or stored, before the change; null if there was no line",
        "receipt_state_after": "none, reported or stored, after the change; null if there is no line",
    },
)
