"""One export: a snapshot of the database, read through a cursor on the server, written batch by batch."""

from __future__ import annotations

from contextlib import closing
from typing import IO, TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.exports.formats import rows_in
from receiver.exports.source import count_query, rows_query

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiver.exports.source import Format, Source, Window
    from receiver.progress import Progress

BATCH: Final = 1000
"""Rows that are fetched together, and so kept in memory."""

_COLUMNS: Final = text(
    """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = CAST(:relation AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
)


def export_rows(
    engine: Engine,
    source: Source,
    window: Window,
    how: Format,
    into: IO[bytes],
    *,
    progress: Progress,
    counted: bool,
    excel: bool = False,
) -> int:
    """Write the rows of *source* that *window* holds, as they all were at one moment; return how many.

    *counted*: count them first, to show progress; *excel*: CSV as a European Excel opens it. Raises
    ``OperationRefused`` and ``ConfigurationError``.
    """
    snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**snapshot) as connection, connection.begin():
        columns = columns_of(connection, source)
        if counted:
            progress.stage("counting")
            rows = connection.scalar(text(count_query(source, window)), window.parameters(source)) or 0
            progress.total(-(-int(rows) // BATCH))
        progress.stage(f"exporting, {BATCH} rows a step")
        query = text(rows_query(source, window, columns, how))
        reading = connection.execution_options(yield_per=BATCH)
        number = 0
        with (
            closing(rows_in(how, into, columns, excel=excel)) as writing,
            reading.execute(query, window.parameters(source)) as result,
        ):
            for batch in result.partitions(BATCH):
                writing.write(batch)
                number += len(batch)
                progress.advance()
            writing.end()
    return number


def columns_of(connection: Connection, source: Source) -> dict[str, str]:
    """Return the columns of *source* in their order: name → type. A later release's are among them by themselves."""
    return {str(name): str(kind) for name, kind in connection.execute(_COLUMNS, {"relation": source.relation})}
