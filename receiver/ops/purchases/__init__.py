"""One purchase, and finding it. Command line and console both read here.

- ``difference``  what differs between two payloads, field by field
- ``details``     its current state
- ``timeline``    everything that happened to it, oldest first
- ``search``      lists: by merchant, amount, day and so on
- ``held``        deliveries that were not applied, and may bring what is searched for
"""

from receiver.ops.purchases.details import PurchaseDetails, organizations_of, read_purchase
from receiver.ops.purchases.difference import FieldChange
from receiver.ops.purchases.held import HeldDeliveries, held_deliveries
from receiver.ops.purchases.search import FoundPurchase, PurchaseFilter, PurchasePage, find_purchases, parse_amount
from receiver.ops.purchases.timeline import VIEW, Happening, view_arguments

__all__ = [
    "VIEW",
    "FieldChange",
    "FoundPurchase",
    "Happening",
    "HeldDeliveries",
    "PurchaseDetails",
    "PurchaseFilter",
    "PurchasePage",
    "find_purchases",
    "held_deliveries",
    "organizations_of",
    "parse_amount",
    "read_purchase",
    "view_arguments",
]
