"""One purchase, and finding it. Command line and console both read here.

- ``difference``  what differs between two payloads, field by field
- ``details``     what holds now
- ``timeline``    everything that happened to it, oldest first
"""

from receiver.ops.purchases.details import PurchaseDetails, organizations_of, read_purchase
from receiver.ops.purchases.difference import FieldChange
from receiver.ops.purchases.timeline import Happening

__all__ = [
    "FieldChange",
    "Happening",
    "PurchaseDetails",
    "organizations_of",
    "read_purchase",
]
