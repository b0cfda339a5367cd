"""``ClaimedDelivery`` and the ``Event`` in it: the values that processing passes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from receiver.events.payloads import Payload


class ClaimedDelivery(msgspec.Struct, frozen=True):
    """A delivery that a worker has claimed, with its webhook's organization: the first columns of ``claim.sql``."""

    id: int
    organization_reference_id: str
    event: str
    version: str | None
    body: bytes | None
    """``None`` once retention or an erasure deleted it: then the event at ``position`` is processed instead."""
    source: str
    occurred_at: datetime
    """OpenCard's first known attempt: aware, in UTC."""
    attempts: int
    """Number of processing attempts, including this one."""
    attempts_before_replay: int = 0
    """Number of attempts before its last replay: they do not count for the pauses."""
    position: int | None = None
    """Position in ``ems.events`` of its event, if it was processed before."""
    test: bool = False
    """Whether it arrived at a test webhook; then it is never applied."""
    trace: bytes | None = None
    """The context of its request's trace, if that is recorded."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The fact in a delivery."""

    delivery_id: int
    name: str
    """The name in the catalogue, also if another spelling arrived."""
    organization_reference_id: str
    card_holder_reference_id: str | None
    transaction_id: str | None
    subject_id: str
    """The id of the transaction, card holder, TPA or invoice that it is about."""
    occurred_at: datetime
    source: str
    fingerprint: bytes
    """SHA-256 of name and payload by value: key order, spacing and ``45`` / ``45.0`` do not count. Of what names no
    organization, that of the webhook counts, too."""
    payload: Payload
    content: dict[str, Any]
    """The payload from which columns are read: unreadable fields are null, numbers in text fields are texts."""
    as_sent: bool = True
    """Whether PostgreSQL can read ``content`` from the stored body."""
    document: bytes | None = None
    """The whole payload, if PostgreSQL cannot read it from the stored body; otherwise ``None``."""
    unreadable: tuple[str, ...] = ()
    """Descriptive fields that could not be read."""
    position: int | None = None
    """Position in ``ems.events``, once it is appended."""
