"""What operators see of stored deliveries. Command line and console both read here.

- ``filter``    which deliveries; and which errors are one and the same
- ``pages``     lists: newest first, page by page, none of them slow
- ``searches``  by which index each list is read
- ``details``   everything that is known of one delivery
- ``effects``   what it changed in the schema ``ems``
"""

from receiver.ops.deliveries.details import (
    Decision,
    DeliveryDetails,
    FailedAttempt,
    InReplay,
    LogEntry,
    Resolution,
    read_delivery,
    read_log_entries,
)
from receiver.ops.deliveries.effects import ChangedRow
from receiver.ops.deliveries.filter import IS_NOT_IN_THE_LOG, IS_UNCONFIRMED, Filter, error_group, is_resolved
from receiver.ops.deliveries.pages import DeliverySummary, Page, list_deliveries, verified_by

__all__ = [
    "IS_NOT_IN_THE_LOG",
    "IS_UNCONFIRMED",
    "ChangedRow",
    "Decision",
    "DeliveryDetails",
    "DeliverySummary",
    "FailedAttempt",
    "Filter",
    "InReplay",
    "LogEntry",
    "Page",
    "Resolution",
    "error_group",
    "is_resolved",
    "list_deliveries",
    "read_delivery",
    "read_log_entries",
    "verified_by",
]
