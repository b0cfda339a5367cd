"""The tables of schema ``ems``: the product. Columns are added, never renamed or retyped."""

from receiver.records.models.enrichments import (
    EnvironmentalImpact,
    Invoice,
    LineItem,
    Receipt,
    VatRate,
    VatTotal,
)
from receiver.records.models.feed import Event, FeedHorizon
from receiver.records.models.people import CardHolder, Tpa
from receiver.records.models.transactions import Transaction, TransactionState

__all__ = [
    "CardHolder",
    "EnvironmentalImpact",
    "Event",
    "FeedHorizon",
    "Invoice",
    "LineItem",
    "Receipt",
    "Tpa",
    "Transaction",
    "TransactionState",
    "VatRate",
    "VatTotal",
]
