"""Which flag of a webhook switches which event on (contract, section 6)."""

from __future__ import annotations

from typing import Final

FLAG_OF: Final[dict[str, str | None]] = {
    "tpa.signed": "tpa_signed",
    "card_holder.created": "card_holder_created",
    "card_holder.identified": "card_holder_identified",
    "card_holder.signed.pdpc": "card_holder_signed_pdpc",
    "card_holder.deleted": "card_holder_deleted",
    "card_holder.email.delivered": "card_holder_email_delivered",
    "card_holder.email.failed": "card_holder_email_failed",
    "card.transaction.authorized": "card_transaction_authorized",
    "card.transaction.cleared": "card_transaction_cleared",
    "card.transaction.deleted": "card_transaction_deleted",
    "card.transaction.invoiced": "card_transaction_invoiced",
    "receipt.fetched": "receipt_fetched",
    "transaction.true.vat": "transaction_true_vat",
    "transaction.line.items": "transaction_line_items",
    "environmental.impact.aland_index": "aland_index",
    "environmental.impact.deedster": "deedster",
    "card.transaction.environmental_impact": None,
    "invoice.created": None,
}
"""Event → flag; an event without one can be sent as a test only."""

FLAGS: Final = tuple(flag for flag in FLAG_OF.values() if flag is not None)
