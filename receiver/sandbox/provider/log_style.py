"""How the delivery log is spelled: what the contract leaves open about it (section 7), each point by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

PayloadName: TypeAlias = Literal["payload", "data", "body"]
PayloadForm: TypeAlias = Literal["object", "text"]
TimeName: TypeAlias = Literal["created_at", "timestamp", "sent_at", "attempted_at"]
TimeForm: TypeAlias = Literal["zulu", "offset", "plain"]
StatusName: TypeAlias = Literal["status", "status_code", "response_status"]
StatusForm: TypeAlias = Literal["number", "text"]
IdName: TypeAlias = Literal["id", "uuid"]
Order: TypeAlias = Literal["newest-first", "oldest-first", "any"]


@dataclass(frozen=True, slots=True)
class LogStyle:
    """One spelling of the log; any combination of values is one that the contract allows.

    It holds for what is read from now on, so a style may be changed between two readings of the same log.
    """

    payload_name: PayloadName = "payload"
    payload_form: PayloadForm = "object"
    """An object, or a string of JSON."""
    reserialized: bool = False
    """Written again in another way: order of keys, spacing, escapes, ``45`` as ``45.0`` and back; equal by value."""
    time_name: TimeName = "created_at"
    time_form: TimeForm = "zulu"
    """``2026-01-12T08:00:00Z``, ``2026-01-12T13:30:00+05:30``, or ``2026-01-12 08:00:00``."""
    microseconds: bool = True
    """Whether times have a fraction; without it, attempts of the same second look like simultaneous ones."""
    status_name: StatusName = "status"
    status_form: StatusForm = "number"
    """503 or ``"503"``; no answer is null either way."""
    id_name: IdName | None = "id"
    """A number under ``id``, a UUID under ``uuid``, or none at all."""
    order: Order = "newest-first"
    """By when the attempts were written down; ``any`` keeps its order, and a new attempt comes anywhere in it."""
    unknown_fields: bool = True
    """Fields that the contract does not know."""
    without_payload: frozenset[int] = frozenset()
    """Ids (``LogEntry.id``) of attempts that are shown without their payload: their events cannot be recovered."""
    gaps: frozenset[int] = frozenset()
    """Ids of attempts that the log does not show at all."""
    seed: int = 0
    """Decides on the order that is ``any``, and on how payloads are written again."""
