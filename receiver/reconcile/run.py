"""Reconciling webhooks: each one's log read, compared with what is stored, what is missing brought in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from receiver.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    import httpx
    from sqlalchemy import Engine

    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of one webhook found and did. ``log_entries`` are attempts, the other numbers count events."""

    webhook_id: int
    opencard_webhook_id: int | None
    organization_reference_id: str
    log_entries: int = 0
    matched: int = 0
    recovered: int = 0
    unconfirmed: int = 0
    """Deliveries of the window, and of the last eight days, that are not in the log though the grace has passed."""
    unrecoverable: int = 0
    """Events that are missing and of which the log does not tell the payload, likewise."""
    checked_until: datetime | None = None
    """Up to when the log has been checked from its beginning, after this run."""
    error: str | None = None
    """Why the run did not end; nothing is changed then."""


class Reconciler:
    """Compares the delivery logs of the webhooks in care with the stored deliveries."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        access: Access,
        *,
        grace: timedelta,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._engine = engine
        self._encryption = encryption
        self._access = access
        self._grace = grace
        self._transport = transport

    def run(
        self,
        webhook_ids: Sequence[int] | None = None,
        *,
        since: datetime | None = None,
        write: bool = True,
        side_by_side: int = 4,
        progress: Progress = Progress(),  # noqa: B008
    ) -> list[Outcome]:
        """Reconcile all registered webhooks in care, or these; one's failure stops no other.

        *since* (aware) is how far back the log is read; without it, from the last run's start with some overlap.
        With ``write=False`` nothing is written anywhere. A webhook that another run is busy with has an ``error`` that
        says so.
        """
        raise NotImplementedError
