"""Rows of ``ems``, derived from the events of their subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.events.content import decode
from receiver.events.kinds import KIND_OF, KINDS
from receiver.json_rows import rows_parameter
from receiver.processing.decide import decide
from receiver.records.folds import fold, tables_of
from receiver.records.history import Subject, read_history
from receiver.records.journal import JOURNAL
from receiver.records.tables import (
    FOLDED,
    FOLDED_COLUMNS,
    TRANSACTION_COLUMNS,
    TRANSACTIONS,
    qualified,
    read_fields,
    typed,
)
from receiver.records.write import ChangeReason, LogChange
from receiver.sql import read_sql
from receiver.verify.difference import EVENTS, RowDifference, until_written
from receiver.verify.journal import compare_journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

    from receiver.events.event import Event
    from receiver.json_rows import Row
    from receiver.progress import Progress
    from receiver.records.history import History
    from receiver.records.tables import FoldedTable

SUBJECTS_AT_ONCE: Final = 200
TRIES: Final = 3
"""How often what differs is looked at before it counts: processing may have been at it."""

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


def _compare_statement(table: FoldedTable) -> str:
    """Return the statement that compares rows of *table* with expected ones: those that differ, both as JSON."""
    if table is TRANSACTIONS:
        columns = expected = TRANSACTION_COLUMNS
        folded_columns = typed(TRANSACTIONS.table.columns[name] for name in FOLDED_COLUMNS)
        source = (
            f"json_to_recordset(CAST(%(rows)s AS json)) AS passed (fields jsonb, {folded_columns}) "
            f"CROSS JOIN LATERAL (SELECT passed.fields AS payload OFFSET 0) AS read {read_fields()}"
        )
    else:
        columns = (*table.key, *table.folded)
        expected = tuple(f"{table.passed(name)} AS {name}" for name in columns)
        source = f"json_populate_recordset(CAST(NULL AS {table.name}), CAST(%(rows)s AS json)) AS passed"
    return read_sql(
        __package__,
        "compare_rows",
        table=table.name,
        subject=table.subject,
        source=source,
        expected=", ".join(expected),
        columns=", ".join(columns),
        same_key=" AND ".join(f"expected.{name} = present.{name}" for name in table.key),
        key=table.key[0],
        present=qualified("present", columns),
        wanted=qualified("expected", columns),
    )


_COMPARE: Final[dict[str, str]] = {table.name: _compare_statement(table) for table in FOLDED.values()}


def all_organizations(connection: psycopg.Connection[Any]) -> list[str]:
    """Return every organization that has a webhook or rows."""
    return [organization for (organization,) in connection.execute(_ORGANIZATIONS).fetchall()]


def ranges(
    connection: psycopg.Connection[Any], organization: str, progress: Progress
) -> Iterator[tuple[str, str | None, list[Subject]]]:
    """Yield the subjects of an organization in ranges of their ids: after which, up to which, and those in it."""
    progress.stage(f"rows of {organization}")
    after = ""
    while True:
        parameters = {"organization": organization, "after": after, "limit": SUBJECTS_AT_ONCE}
        rows = connection.execute(_SUBJECTS, parameters).fetchall()
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


def compare_rows(
    connection: psycopg.Connection[Any], organization: str, after: str, until: str | None, subjects: Sequence[Subject]
) -> list[RowDifference]:
    """Return what differs, as often as it is looked at: what is being processed meanwhile does not count."""
    found: list[RowDifference] = []
    for number in range(TRIES):
        seen = list(_compare_rows(connection, organization, after, until, subjects))
        found = seen if not number else [each for each in seen if each in found]
        if not found:
            break
    return found


def _compare_rows(
    connection: psycopg.Connection[Any], organization: str, after: str, until: str | None, subjects: Sequence[Subject]
) -> Iterator[RowDifference]:
    history = read_history(connection, subjects, all_times=True)
    rows: dict[str, list[Row]] = {table.name: [] for table in FOLDED.values()}
    for subject, events, times in _decided(subjects, history):
        for position, (stored, expected) in times.items():
            yield RowDifference(
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
    wrong: set[tuple[str, str]] = set()
    for table in FOLDED.values():
        parameters = {**range_, "rows": rows_parameter(rows[table.name])}
        for present, expected in connection.execute(_COMPARE[table.name], parameters, prepare=False):
            difference = _row_difference(table, present, expected)
            wrong.add(difference.subject)
            yield difference
    for difference in compare_journal(connection, organization, after, until):
        if difference.subject not in wrong:  # else it is the ledger that is wrong
            yield difference


def _decided(
    subjects: Sequence[Subject], history: History
) -> Iterator[tuple[Subject, list[Event], dict[int, tuple[Any, Any]]]]:
    """Yield each subject with its events at the right times, and of those that have another one both times."""
    for subject, known in zip(subjects, history.known, strict=True):
        decided = decide(subject.kind, known, [])
        stored = {event.position: event.occurred_at for event in known.events}
        yield subject, decided.events, {at: (stored[at], moment) for at, moment in decided.corrected_times.items()}


def _row_difference(table: FoldedTable, present: str | None, expected: str | None) -> RowDifference:
    stored = {} if present is None else decode(present.encode())
    wanted = {} if expected is None else decode(expected.encode())
    row = stored or wanted
    columns = {}
    if stored and wanted:
        columns = {name: (stored[name], wanted[name]) for name in wanted if stored[name] != wanted[name]}
    problem = "missing" if not stored else "unexpected" if not wanted else "differs"
    key = {name: row[name] for name in table.key}
    return RowDifference(table.name, key, problem, columns, (row["organization_reference_id"], row[table.subject]))


def rewrite_rows(connection: psycopg.Connection[Any], organization: str, found: Sequence[RowDifference]) -> None:
    """Fold the subjects of what differs again and write their rows; those without events lose them."""
    ids = {each.subject[1] for each in found}
    tables = {each.table for each in found}
    subjects = [
        Subject(kind, organization, id_)
        for id_ in sorted(ids)
        for kind in KINDS
        if EVENTS in tables
        or (JOURNAL in tables and TRANSACTIONS.model in tables_of(kind))
        or any(FOLDED[model].name in tables for model in tables_of(kind))
    ]
    until_written(connection, lambda: _folded(connection, subjects))


def _folded(connection: psycopg.Connection[Any], subjects: Sequence[Subject]) -> LogChange:
    """Return the change that makes the rows of *subjects* what they follow from."""
    history = read_history(connection, subjects, all_times=True)
    change = LogChange(subjects, history)
    for subject, known in zip(subjects, history.known, strict=True):
        decided = decide(subject.kind, known, [])
        change.corrected_times |= decided.corrected_times
        for model, rows in fold(subject.kind, decided.events).items():
            change.rows.setdefault(model, []).extend(rows)
        if decided.events:
            change.announced.append((subject, decided.events[-1], ChangeReason.ROWS_REBUILT))
    return change
