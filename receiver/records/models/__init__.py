"""The tables of schema ``ems``: the product. Columns are added, never renamed or retyped."""

from receiver.records.models.enrichments import (
    EnvironmentalImpact,
    Invoice,
    LineItem,
    Receipt,
    VatRate,
    VatTotal,
)
from receiver.records.models.feed import Consumer, EpochRow, FeedHorizon, LoggedEvent
from receiver.records.models.ledger import Closing, JournalLine
from receiver.records.models.organizations import KnownOrganization
from receiver.records.models.people import CardHolder, Tpa
from receiver.records.models.transactions import Transaction

__all__ = [
    "CardHolder",
    "Closing",
    "Consumer",
    "EnvironmentalImpact",
    "EpochRow",
    "FeedHorizon",
    "Invoice",
    "JournalLine",
    "KnownOrganization",
    "LineItem",
    "LoggedEvent",
    "Receipt",
    "Tpa",
    "Transaction",
    "VatRate",
    "VatTotal",
]
