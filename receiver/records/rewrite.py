"""Replaces events of the event log and the rows that are folded from them, for erasure and ``rebuild``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.events.kinds import KIND_OF
from receiver.json_rows import rows_parameter
from receiver.records.folds import fold
from receiver.records.history import Subject, read_history
from receiver.records.write import LogChange, entry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from receiver.events.event import Event
    from receiver.records.write import ChangeReason

_REWRITE: Final = """
UPDATE ems.events AS event SET type = passed.type, payload = passed.document, transaction_id = passed.transaction_id,
    card_holder_reference_id = passed.card_holder_reference_id, subject_id = passed.subject_id,
    fingerprint = passed.fingerprint, source = passed.source, delivery_id = passed.delivery_id
FROM json_to_recordset(CAST(%(rows)s AS json)) AS passed (
    position bigint, type text, document jsonb, transaction_id text, card_holder_reference_id text, subject_id text,
    fingerprint bytea, source text, delivery_id bigint
)
WHERE event.position = passed.position AND event.position = ANY(%(positions)s)
"""


def rewriting(
    connection: psycopg.Connection[Any], before: Mapping[int, Subject], after: Mapping[int, Event], reason: ChangeReason
) -> LogChange:
    """Return the change that replaces events, folds their subjects again, and announces them in the feed.

    *before*: the subject of each event in the event log, by position. *after*: the event that replaces it, with its
    ``document``.
    """
    subjects = list(dict.fromkeys([*before.values(), *map(subject_of_event, after.values())]))
    history = read_history(connection, subjects)
    change = LogChange(subjects, history)
    events: dict[Subject, list[Event]] = {subject: [] for subject in subjects}
    for subject, known in zip(subjects, history.known, strict=True):
        for event in known.events:
            becomes = after.get(event.position or 0)
            if becomes is None:
                events[subject].append(event)
            else:
                events[subject_of_event(becomes)].append(becomes)
    for subject, of_subject in events.items():
        for model, rows in fold(subject.kind, of_subject).items():
            change.rows.setdefault(model, []).extend(rows)
        if of_subject:
            change.announced.append((subject, of_subject[-1], reason))
    rows = [{**entry_of(event), "position": position} for position, event in after.items()]
    change.before.append((_REWRITE, {"rows": rows_parameter(rows), "positions": list(after)}))
    return change


def subject_of_event(event: Event) -> Subject:
    """Return what *event* is about."""
    return Subject(KIND_OF[event.name], event.organization_reference_id, event.subject_id)
