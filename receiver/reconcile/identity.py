"""What makes a delivery and an attempt the same event, and two readings of the log the same entry. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.events.catalogue import canonical_name
from receiver.events.content import UNREADABLE, fingerprint

if TYPE_CHECKING:
    from receiver.opencard.delivery_log_item import LogItem

CHALLENGE: Final = "challenge"
"""The X-Event of a challenge; an attempt of it delivers nothing."""


def event_name(event: str) -> str:
    """Return the name by which an event is compared: the catalogue's, or as it came."""
    return canonical_name(event) or event


def event_fingerprint(event: str, body: bytes, organization: str) -> bytes:
    """Return the fingerprint of a delivery: by value, or if the body is not JSON, by its bytes.

    *organization* is the one whose webhook received it.
    """
    name = event_name(event)
    try:
        return fingerprint(name, body, organization)
    except UNREADABLE:
        return hashlib.sha256(b"bytes\0" + name.encode() + b"\0" + body).digest()


def entry_key(entry: LogItem, fingerprint: bytes | None) -> bytes:
    """Return the hash that identifies a log entry: of its id or, if it has none, of its content in any spelling."""
    if entry.id is not None:
        identity_fields: tuple[object, ...] = ("id", entry.id)
    elif entry.event:
        identity_fields = ("entry", entry.event, entry.response_status, entry.attempted_at, (fingerprint or b"").hex())
    else:
        identity_fields = ("item", entry.item.hex())
    return hashlib.sha256(msgspec.json.encode(identity_fields)).digest()
