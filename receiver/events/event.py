"""What a claimed delivery is, and the event in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from receiver.events.payloads import Payload


class ClaimedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that a worker has claimed, with its webhook's organization."""

    id: int
    organization_reference_id: str
    event: str
    version: str | None
    body: bytes | None
    """``None`` once retention or an erasure deleted it: then what the log has at ``position`` is processed again."""
    source: str
    occurred_at: datetime
    """OpenCard's first attempt, as far as it is known: aware, in UTC."""
    attempts: int
    """How often processing was tried, this attempt included."""
    attempts_before_replay: int = 0
    """How many of them were before somebody had it replayed: they do not count for the pauses."""
    position: int | None = None
    """In ``ems.events``: the event that it brought or repeats, where it was processed before."""
    test: bool = False
    """Whether it arrived at a test webhook: then it is never applied."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The fact in a delivery."""

    delivery_id: int
    name: str
    """The catalogue's name, whatever spelling arrived."""
    organization_reference_id: str
    card_holder_reference_id: str | None
    transaction_id: str | None
    subject_id: str
    """What it is about: the id of its transaction, card holder, TPA or invoice."""
    occurred_at: datetime
    source: str
    fingerprint: bytes
    """SHA-256 of name and payload by value: key order, spacing and ``45`` / ``45.0`` do not count."""
    payload: Payload
    content: dict[str, Any]
    """The payload as columns are to read it: without what cannot be read, numbers as texts where texts belong."""
    as_sent: bool = True
    """Whether ``content`` is what PostgreSQL reads in the stored body."""
    document: bytes | None = None
    """The whole payload, where PostgreSQL cannot read it in the stored body; else ``None``."""
    unreadable: tuple[str, ...] = ()
    """Fields that only describe and cannot be read."""
    position: int | None = None
    """In ``ems.events``, once it is there."""
