"""Column factories: every column of ``ems`` states its meaning, unit and source in a comment."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Computed
from sqlalchemy.orm import MappedColumn, mapped_column

ORGANIZATION = "The EMS's own id of the organization (source: organization.reference_id)"
CARD_HOLDER = (
    "The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card "
    "holder is erased"
)
TRANSACTION = "OpenCard's id of the transaction, the same through all its states (source: transaction.id)"
UPDATED = "When this row last changed in this database; not a time of the transaction"
_ATTEMPT = (
    "Time of OpenCard's first attempt to deliver {}; the time of its arrival if the delivery log shows no earlier "
    "attempt. OpenCard sends no time of the event itself"
)
ATTEMPTED = _ATTEMPT.format("the event")
LEARNED = _ATTEMPT.format("the event that these values come from")
RECEIPT_LEARNED = _ATTEMPT.format("the receipt's event") + "; the time of the download is downloaded_at"
AS_SENT = "sign as sent (not documented by OpenCard)"
CREDIT = f"{AS_SENT}; negative is read as a credit: a refund, chargeback or discount"
ISO_CURRENCY = "as sent, normally ISO 4217"
ISO_COUNTRY = "as sent, normally ISO 3166 alpha-2"
DELIVERY = "Delivery that the current values come from (receiver.deliveries.id)"

URL_HASH = r"sha256(decode(replace(url, '\', '\\'), 'escape'))"
"""The bytes of a text, as an expression that PostgreSQL takes for immutable."""


def key(comment: str, *, place: int = 0) -> MappedColumn[Any]:
    """Return a text column of the primary key; with a *place* below 0 before those that a table has of its own."""
    return mapped_column(primary_key=True, sort_order=place, comment=comment)


def column(comment: str) -> MappedColumn[Any]:
    """Return a column of the type that its annotation says, see ``receiver.db.Base``."""
    return mapped_column(comment=comment)


def whole_number(comment: str) -> MappedColumn[Any]:
    """Return an integer of 64 bits."""
    return mapped_column(BigInteger, comment=comment)


def url_hash(comment: str) -> MappedColumn[Any]:
    """Return a column of the primary key for ``url``, which may be longer than a key can be."""
    return mapped_column(Computed(URL_HASH, persisted=True), primary_key=True, comment=comment)
