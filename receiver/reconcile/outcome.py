"""The result of one run for one webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReconcileOutcome:
    """``log_entries`` counts attempts; the others count occurrences (see ``compare``): an event sent twice is two."""

    webhook_id: int
    opencard_webhook_id: int | None
    organization_reference_id: str
    log_entries: int = 0
    matched: int = 0
    """Occurrences that the log and the stored deliveries have."""
    recovered: int = 0
    """Deliveries that were missing and are stored and pending now; in a dry run, those that would be."""
    unconfirmed: int = 0
    """Deliveries of the window, and of the last eight days, that are not in the log though the grace has passed."""
    unrecoverable: int = 0
    """Events that are missing here and have no payload in the log, likewise."""
    checked_until: datetime | None = None
    """Up to when the log has been checked from its beginning, after this run."""
    error: str | None = None
    """Why the run failed; it has changed nothing then."""
