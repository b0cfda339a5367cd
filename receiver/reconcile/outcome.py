"""The result of one run for one webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReconcileOutcome:
    """``log_entries`` counts attempts, ``unconfirmed`` deliveries, the rest occurrences (see ``compare``)."""

    webhook_id: int
    opencard_webhook_id: int | None
    organization_reference_id: str
    log_entries: int = 0
    matched: int = 0
    """Occurrences that the log and the stored deliveries have."""
    recovered: int = 0
    """Deliveries that were missing and are stored and pending now; in a dry run, those that would be."""
    unconfirmed: int = 0
    """Deliveries that are not in the log though the grace has passed: of the time that was read, and at least of the
    last eight days, unless the run leaves a gap before it."""
    unrecoverable: int = 0
    """Events that are missing here and have no payload in the log, likewise."""
    checked_until: datetime | None = None
    """Up to when the log has been checked from its beginning, after this run."""
    error: str | None = None
    """Why the run failed; it has changed nothing then."""
