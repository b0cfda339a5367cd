"""How an attempt is shown in the delivery log, in the spelling that is asked for."""

from __future__ import annotations

import uuid
from datetime import UTC, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.sandbox.provider.rewrite_json import rewrite_json
from receiver.sandbox.story_events import read

if TYPE_CHECKING:
    from receiver.sandbox.provider.log_style import LogStyle
    from receiver.sandbox.provider.resources import ProviderLogEntry

ELSEWHERE: Final = timezone(timedelta(hours=5, minutes=30))
"""The zone of times with an offset: one whose minutes count, too."""


def log_item(entry: ProviderLogEntry, style: LogStyle) -> dict[str, object]:
    """Return an attempt as the log has it (contract, section 7); the payload equals by value, not by bytes."""
    item: dict[str, object] = {}
    if style.id_name is not None:
        item[style.id_name] = entry.id if style.id_name == "id" else str(uuid.UUID(int=entry.id, version=4))
    item["event"] = entry.event
    item[style.status_name] = _status(entry, style)
    if entry.id not in style.without_payload:
        item[style.payload_name] = _payload(entry, style)
    item[style.time_name] = _time(entry, style)
    if style.unknown_fields:
        item |= {
            "duration_ms": None,
            "webhook": {"id": entry.webhook_id, "version": "1"},
            "tags": ["webhook", entry.event],
        }
    return item


def _status(entry: ProviderLogEntry, style: LogStyle) -> int | str | None:
    return str(entry.status) if style.status_form == "text" and entry.status is not None else entry.status


def _payload(entry: ProviderLogEntry, style: LogStyle) -> object:
    try:
        fields = read(entry.body)
    except ValueError:  # receiver trigger sends any body
        return entry.body.decode(errors="replace")
    if not style.reserialized:
        return fields if style.payload_form == "object" else entry.body.decode()
    # by attempt: the same event sent three times is written in three ways
    rng = Random(f"{style.seed}:{entry.id}")  # noqa: S311 - it has to be the same again, not unguessable
    written = rewrite_json(fields, rng)
    return msgspec.Raw(written.encode()) if style.payload_form == "object" else written


def _time(entry: ProviderLogEntry, style: LogStyle) -> str:
    at = entry.at.astimezone(ELSEWHERE if style.time_form == "offset" else UTC)
    precision = "microseconds" if style.microseconds else "seconds"
    match style.time_form:
        case "zulu":
            return f"{at.replace(tzinfo=None).isoformat(timespec=precision)}Z"
        case "offset":
            return at.isoformat(timespec=precision)
        case "plain":
            return at.replace(tzinfo=None).isoformat(sep=" ", timespec=precision)
