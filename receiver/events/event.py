"""An event, understood: what a delivery says, typed, with the references by which it is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from receiver.events.payloads import Payload


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery as it waits in the database, with its webhook's organization."""

    id: int
    organization_reference_id: str
    event: str
    version: str | None
    body: bytes = field(repr=False)
    source: str
    occurred_at: datetime
    attempts: int
    attempts_before_replay: int = 0
    """How many of them were before somebody had it replayed: the pauses between attempts begin anew."""


@dataclass(frozen=True, slots=True)
class Event:
    """The fact in a delivery."""

    delivery_id: int
    name: str
    """The catalogue's name, whatever spelling arrived."""
    organization_reference_id: str
    card_holder_reference_id: str | None
    transaction_id: str | None
    occurred_at: datetime
    source: str
    fingerprint: bytes
    """SHA-256 of name and payload by value: key order, spacing and ``45`` / ``45.0`` do not count."""
    payload: Payload = field(repr=False)
    document: bytes | None = field(repr=False)
    """The whole payload, with U+FFFD for NUL, where PostgreSQL would refuse the stored body; else ``None``."""
    fields: bytes | None = field(default=None, repr=False)
    """The payload as columns are to read it, where that differs: without what cannot be read, numbers as texts."""
    unreadable: tuple[str, ...] = ()
    """Fields that only describe and cannot be read."""
