"""The views of schema ``ems``. Migrations keep copies of their own; a test checks that both agree.

- ``ledger``      the transactions to post, one row each
- ``vat``         the VAT of each of these rows, by rate
- ``pending``     what is authorized and still open
- ``duplicates``  transactions that may have been reported twice
- ``transaction_states``  every snapshot of a transaction, from the event log
- ``missing_receipts``  transactions whose digital receipt OpenCard announced and has not sent
- ``completeness``  time up to which everything is stored and applied
- ``late_changes``  what changed in a month after it was closed
- ``invoice_control``  invoice reconciliation: the issuer's invoices compared with the ledger
- ``view``        a view with the meaning of its columns
"""

from __future__ import annotations

from typing import Final

from receiver.records.views.completeness import COMPLETENESS
from receiver.records.views.duplicates import POSSIBLE_DUPLICATES
from receiver.records.views.invoice_control import INVOICE_CONTROL
from receiver.records.views.late_changes import LATE_CHANGES
from receiver.records.views.ledger import LEDGER
from receiver.records.views.missing_receipts import MISSING_RECEIPTS
from receiver.records.views.pending import PENDING_TRANSACTIONS
from receiver.records.views.transaction_states import TRANSACTION_STATES
from receiver.records.views.vat import LEDGER_VAT

VIEWS: Final = (
    LEDGER,
    LEDGER_VAT,
    PENDING_TRANSACTIONS,
    POSSIBLE_DUPLICATES,
    MISSING_RECEIPTS,
    TRANSACTION_STATES,
    COMPLETENESS,
    LATE_CHANGES,
    INVOICE_CONTROL,
)
"""Each view of schema ``ems``, one that another reads before that one."""

__all__ = ["VIEWS"]
