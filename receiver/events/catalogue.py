"""The events OpenCard sends: their names, webhook flags and other spellings.

Names are strings, because OpenCard adds events; a delivery of an event that is not listed here is ``ignored``.
Source: the provider's event pages.
"""

from __future__ import annotations

from typing import Final

EVENT_FLAGS: Final[dict[str, str | None]] = {
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
"""Event name → the boolean field of a webhook that switches it on (``None``: no flag is documented)."""

NAME_NO_ORGANIZATION: Final = frozenset({"invoice.created"})
"""Events whose payload names no organization: equal payloads of two organizations are two events."""

ALIASES: Final[dict[str, str]] = {
    "environmental_impact.aland_index": "environmental.impact.aland_index",
    "environmental_impact.deedster": "environmental.impact.deedster",
    "transaction.line_items": "transaction.line.items",
}
"""Other spellings in the provider's documentation → the name in this catalogue."""
SUPPORTED_VERSIONS: Final = frozenset({None, "", "1"})
"""Values of ``X-Version`` that this code was written for; the header may be absent."""


def is_supported(version: str | None) -> bool:
    """Return whether *version*, an ``X-Version`` as received, is one that this code was written for."""
    return version in SUPPORTED_VERSIONS or (version or "").strip() in SUPPORTED_VERSIONS


def spellings(event: str) -> list[str]:
    """Return every name under which *event*, a name in this catalogue, may arrive."""
    return [event, *(alias for alias, name in ALIASES.items() if name == event)]


def canonical_name(event: str) -> str | None:
    """Return the catalogue's name of *event*, or ``None`` when the catalogue does not know it."""
    name = ALIASES.get(event, event)
    return name if name in EVENT_FLAGS else None
