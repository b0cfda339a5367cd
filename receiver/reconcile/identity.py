"""When two tell of the same: a delivery and an attempt, or two sights of one entry of the log. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.events.catalogue import canonical_name
from receiver.events.content import UNREADABLE, fingerprint

if TYPE_CHECKING:
    from receiver.opencard.delivery_log_item import LogEntry

CHALLENGE: Final = "challenge"
"""OpenCard names this in X-Event when it asks whether an endpoint is ours; an attempt of it delivers nothing."""


def event_name(event: str) -> str:
    """Return the name by which an event is compared: the catalogue's, or as it came."""
    return canonical_name(event) or event


def identify(event: str, body: bytes, organization: str) -> bytes:
    """Return the fingerprint of an event as it came: by value, or of a body that is no JSON, by its bytes.

    *organization* is whose webhook it came by.
    """
    name = event_name(event)
    try:
        return fingerprint(name, body, organization)
    except UNREADABLE:
        return hashlib.sha256(b"bytes\0" + name.encode() + b"\0" + body).digest()


def likeness(entry: LogEntry, fingerprint: bytes | None) -> bytes:
    """Return what is equal in two sights of one entry: its id, or without one what it says, whatever the spelling."""
    if entry.id is not None:
        said: tuple[object, ...] = ("id", entry.id)
    elif entry.event:
        said = ("entry", entry.event, entry.response_status, entry.attempted_at, (fingerprint or b"").hex())
    else:
        said = ("item", entry.item.hex())
    return hashlib.sha256(msgspec.json.encode(said)).digest()
