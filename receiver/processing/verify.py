"""Verifying and rebuilding: each layer derived from the one above it again, beside the running service.

Events are derived from the deliveries that still have their bodies, rows from events, by the functions that processing
uses. ``verify`` names what differs; ``rebuild`` writes what it found, a few subjects at a time, announced in the feed.
So it may be interrupted and repeated, and it is how a release with a corrected mapping takes effect on what is stored.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import structlog

from receiver.errors import EventError
from receiver.events.content import decode
from receiver.events.event import ClaimedDelivery
from receiver.events.kinds import KIND_OF, KINDS
from receiver.events.parse import LogEntry, parse
from receiver.json_rows import rows_parameter
from receiver.processing.decide import decide
from receiver.records.folds import fold, tables_of
from receiver.records.history import Subject, read_history
from receiver.records.rewrite import rewriting
from receiver.records.tables import FOLDED, TRANSACTIONS, compare_statement
from receiver.records.write import Change, Outdated, commit
from receiver.sql import read_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg

    from receiver.events.event import Event
    from receiver.json_rows import Row
    from receiver.progress import Progress
    from receiver.records.history import History
    from receiver.records.tables import FoldedTable

log = structlog.stdlib.get_logger(__name__)

REBUILT: Final = "rebuilt"
"""Why a subject is announced."""
EVENTS: Final = "ems.events"
DELIVERIES_AT_ONCE: Final = 200
SUBJECTS_AT_ONCE: Final = 200
TRIES: Final = 3
"""How often what differs is looked at before it counts: processing may have been at it."""

_LAST: Final = "SELECT coalesce(max(id), 0) FROM receiver.stored_deliveries"
_APPLIED: Final = read_sql(__package__, "applied")
_ORGANIZATIONS: Final = " UNION ".join(
    f"SELECT organization_reference_id FROM {table}"  # noqa: S608 - names of the models
    for table in ("receiver.webhooks", *(table.name for table in FOLDED.values()))
)
_SUBJECTS: Final = """
SELECT subject_id, array_agg(DISTINCT type) FROM (
    SELECT subject_id, type FROM ems.events
    WHERE organization_reference_id = %(organization)s AND subject_id > %(after)s AND type <> 'receiver.changed'
    ORDER BY subject_id
) AS logged GROUP BY subject_id ORDER BY subject_id LIMIT %(limit)s
"""
_QUEUE: Final = """
INSERT INTO receiver.queue (delivery_id, attempts)
SELECT delivery_id, attempts FROM receiver.outcomes WHERE delivery_id = ANY(%(ids)s)
ON CONFLICT (delivery_id) DO NOTHING
"""
_DELETE: Final = """
DELETE FROM {table} AS stored
USING json_to_recordset(CAST(current_setting('receiver.unexpected_{name}') AS json))
    AS gone (organization text, id text)
WHERE stored.organization_reference_id = gone.organization AND stored.{subject} = gone.id
"""
_COMPARE: Final[dict[str, str]] = {table.name: compare_statement(table) for table in FOLDED.values()}


class Difference(NamedTuple):
    """A row of ``ems`` that is not what it follows from."""

    table: str
    key: dict[str, Any]
    problem: str
    """``differs``, ``missing`` or ``unexpected``."""
    columns: dict[str, tuple[Any, Any]]
    """Column → what is stored, and what is expected; of a row that differs."""
    subject: tuple[str, str]
    """Organization and id of what the row is about."""
    position: int | None = None
    delivery_id: int | None = None


def verify(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[Difference]:
    """Yield what differs, of these *organizations* or of all; *connection* is a ``writing_connection``."""
    yield from _verify_events(connection, organizations, progress)
    yield from _verify_rows(connection, organizations, progress)


def rebuild(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[Difference]:
    """Write what ``verify`` finds, and yield it once it is written."""
    for slice_ in _slices(connection, organizations, progress):
        found = list(_compare_events(slice_))
        if found:
            _rewrite_events(connection, slice_, found)
            yield from found
    for organization in organizations or _organizations(connection):
        for after, until, subjects in _ranges(connection, organization, progress):
            found = _differences(connection, organization, after, until, subjects)
            if found:
                _rewrite_rows(connection, organization, found)
                yield from found


# --- events from deliveries ------------------------------------------------------------------------------------------

Applied = tuple[ClaimedDelivery, LogEntry | None]
"""A delivery that brought an event, and that event as the log has it; ``None`` where it is missing."""


def _verify_events(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[Difference]:
    for slice_ in _slices(connection, organizations, progress):
        yield from _compare_events(slice_)


def _slices(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[list[Applied]]:
    (last,) = connection.execute(_LAST).fetchone() or (0,)
    progress.stage("events from deliveries")
    for after in range(0, last, DELIVERIES_AT_ONCE):
        asked = {
            "after": after,
            "until": after + DELIVERIES_AT_ONCE,
            "organizations": None if organizations is None else list(organizations),
        }
        rows = connection.execute(_APPLIED, asked)
        yield [
            (
                ClaimedDelivery(
                    id=row[0],
                    organization_reference_id=row[1],
                    event=row[2],
                    version=row[3],
                    body=row[4],
                    source=row[5],
                    occurred_at=row[6],
                    attempts=1,
                    position=row[7],
                ),
                None if row[8] is None else LogEntry(*row[8:]),
            )
            for row in rows
        ]


def _compare_events(slice_: Sequence[Applied]) -> Iterator[Difference]:
    for delivery, entry in slice_:
        if entry is None:
            yield Difference(
                EVENTS,
                {"position": delivery.position},
                "missing",
                {},
                (delivery.organization_reference_id, ""),
                delivery.position,
                delivery.id,
            )
            continue
        try:
            expected = parse(delivery)
        except EventError as error:
            log.warning("verify.unparsable", delivery_id=delivery.id, error=str(error))
            continue
        columns = _event_columns(delivery, entry, expected)
        if columns:
            subject = (entry.organization_reference_id, expected.subject_id)
            yield Difference(
                EVENTS, {"position": entry.position}, "differs", columns, subject, entry.position, delivery.id
            )


def _event_columns(delivery: ClaimedDelivery, entry: LogEntry, expected: Event) -> dict[str, tuple[Any, Any]]:
    """Return the columns of an event that are not what its delivery says."""
    present: Mapping[str, Any] = {**entry._asdict(), "fingerprint": bytes(entry.fingerprint or b"")}
    columns = {
        name: (present[of_entry], getattr(expected, of_event))
        for name, of_entry, of_event in (
            ("type", "type", "name"),
            ("organization_reference_id", "organization_reference_id", "organization_reference_id"),
            ("card_holder_reference_id", "card_holder_reference_id", "card_holder_reference_id"),
            ("transaction_id", "transaction_id", "transaction_id"),
            ("subject_id", "subject_id", "subject_id"),
            ("source", "source", "source"),
            ("delivery_id", "delivery_id", "delivery_id"),
            ("fingerprint", "fingerprint", "fingerprint"),
        )
        if present[of_entry] != getattr(expected, of_event)
    }
    if "fingerprint" in columns:
        columns["fingerprint"] = (columns["fingerprint"][0].hex(), columns["fingerprint"][1].hex())
    stored, wanted = decode(entry.payload.encode()), decode(_document(delivery, expected))
    if stored != wanted:
        columns["payload"] = (stored, wanted)
    return columns


def _document(delivery: ClaimedDelivery, event: Event) -> bytes:
    """Return the payload as the log is to have it."""
    return event.document if event.document is not None else delivery.body or b"{}"


def _rewrite_events(
    connection: psycopg.Connection[Any], slice_: Sequence[Applied], found: Sequence[Difference]
) -> None:
    """Write events as their deliveries say, with the rows of what they are about; missing ones are processed again."""
    missing = [each.delivery_id for each in found if each.problem == "missing"]
    if missing:
        connection.execute(_QUEUE, {"ids": missing})
    wrong = {each.position for each in found if each.problem == "differs"}
    before, after = {}, {}
    for delivery, entry in slice_:
        if entry is not None and entry.position in wrong:
            expected = parse(delivery)
            after[entry.position] = msgspec.structs.replace(
                expected, position=entry.position, document=_document(delivery, expected), as_sent=False
            )
            kind = KIND_OF.get(entry.type, KIND_OF[expected.name])
            before[entry.position] = Subject(kind, entry.organization_reference_id, entry.subject_id)
    if after:
        _until_written(connection, lambda: rewriting(connection, before, after, REBUILT))


def _until_written(connection: psycopg.Connection[Any], prepare: Callable[[], Change]) -> None:
    """Write a change, prepared anew as often as something is added meanwhile."""
    while True:
        with suppress(Outdated):
            commit(connection, prepare())
            return


# --- rows from events ------------------------------------------------------------------------------------------------


def _verify_rows(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[Difference]:
    for organization in organizations or _organizations(connection):
        for after, until, subjects in _ranges(connection, organization, progress):
            yield from _differences(connection, organization, after, until, subjects)


def _organizations(connection: psycopg.Connection[Any]) -> list[str]:
    return [organization for (organization,) in connection.execute(_ORGANIZATIONS).fetchall()]


def _ranges(
    connection: psycopg.Connection[Any], organization: str, progress: Progress
) -> Iterator[tuple[str, str | None, list[Subject]]]:
    """Yield the subjects of an organization in ranges of their ids: behind which, up to which, and those there."""
    progress.stage(f"rows of {organization}")
    after = ""
    while True:
        asked = {"organization": organization, "after": after, "limit": SUBJECTS_AT_ONCE}
        rows = connection.execute(_SUBJECTS, asked).fetchall()
        until = rows[-1][0] if len(rows) == SUBJECTS_AT_ONCE else None
        kinds = {id_: {KIND_OF[type_].name for type_ in types if type_ in KIND_OF} for id_, types in rows}
        yield (
            after,
            until,
            [Subject(kind, organization, id_) for id_, names in kinds.items() for kind in KINDS if kind.name in names],
        )
        if until is None:
            return
        after = until


def _differences(
    connection: psycopg.Connection[Any], organization: str, after: str, until: str | None, subjects: Sequence[Subject]
) -> list[Difference]:
    """Return what differs, as often as it is looked at: what is being processed meanwhile does not count."""
    found: list[Difference] = []
    for number in range(TRIES):
        seen = list(_compare_rows(connection, organization, after, until, subjects))
        found = seen if not number else [each for each in seen if each in found]
        if not found:
            break
    return found


def _compare_rows(
    connection: psycopg.Connection[Any], organization: str, after: str, until: str | None, subjects: Sequence[Subject]
) -> Iterator[Difference]:
    history = read_history(connection, subjects, all_times=True)
    rows: dict[str, list[Row]] = {table.name: [] for table in FOLDED.values()}
    for subject, events, dated in _decided(subjects, history):
        for position, (stored, expected) in dated.items():
            yield Difference(
                EVENTS,
                {"position": position},
                "differs",
                {"occurred_at": (stored, expected)},
                (organization, subject.id),
                position,
            )
        for model, folded in fold(subject.kind, events).items():
            rows[FOLDED[model].name] += folded
    range_ = {"organization": organization, "after": after, "until": until}
    for table in FOLDED.values():
        given = {**range_, "rows": rows_parameter(rows[table.name])}
        for present, expected in connection.execute(_COMPARE[table.name], given, prepare=False):
            yield _row_difference(table, present, expected)


def _decided(
    subjects: Sequence[Subject], history: History
) -> Iterator[tuple[Subject, list[Event], dict[int, tuple[Any, Any]]]]:
    """Yield each subject with its events as they are to be dated, and those that are dated otherwise."""
    for subject, known in zip(subjects, history.known, strict=True):
        decided = decide(subject.kind, known, [])
        stored = {event.position: event.occurred_at for event in known.events}
        yield subject, decided.events, {at: (stored[at], moment) for at, moment in decided.dated.items()}


def _row_difference(table: FoldedTable, present: str | None, expected: str | None) -> Difference:
    stored = {} if present is None else decode(present.encode())
    wanted = {} if expected is None else decode(expected.encode())
    row = stored or wanted
    columns = {}
    if stored and wanted:
        columns = {name: (stored[name], wanted[name]) for name in wanted if stored[name] != wanted[name]}
    problem = "missing" if not stored else "unexpected" if not wanted else "differs"
    key = {name: row[name] for name in table.key}
    return Difference(table.name, key, problem, columns, (row["organization_reference_id"], row[table.subject]))


def _rewrite_rows(connection: psycopg.Connection[Any], organization: str, found: Sequence[Difference]) -> None:
    """Fold the subjects of what differs anew and write their rows; those without events lose them."""
    ids = {each.subject[1] for each in found}
    tables = {each.table for each in found}
    subjects = [
        Subject(kind, organization, id_)
        for id_ in sorted(ids)
        for kind in KINDS
        if EVENTS in tables or any(FOLDED[model].name in tables for model in tables_of(kind))
    ]
    _until_written(connection, lambda: _folded(connection, organization, subjects))


def _folded(connection: psycopg.Connection[Any], organization: str, subjects: Sequence[Subject]) -> Change:
    """Return the change that makes the rows of *subjects* what they follow from."""
    history = read_history(connection, subjects, all_times=True)
    change = Change(subjects, history)
    unexpected: list[Row] = []
    for subject, known in zip(subjects, history.known, strict=True):
        decided = decide(subject.kind, known, [])
        change.dated |= decided.dated
        for model, rows in fold(subject.kind, decided.events).items():
            change.rows.setdefault(model, []).extend(rows)
        if decided.events:
            change.announced.append((subject, decided.events[-1], REBUILT))
        elif TRANSACTIONS.model in tables_of(subject.kind):
            unexpected.append({"organization": organization, "id": subject.id})
    if unexpected:
        delete = _DELETE.format(table=TRANSACTIONS.name, name=TRANSACTIONS.table.name, subject=TRANSACTIONS.subject)
        change.after.append((delete, f"unexpected_{TRANSACTIONS.table.name}", unexpected))
    return change
