"""``verify`` names what differs, ``rebuild`` writes what is expected, a few subjects at a time.

Both use the functions that processing uses. What is rebuilt is announced in the feed. A run may be interrupted and
repeated, and it is how a release with a corrected mapping takes effect on what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from receiver.verify.events import compare_events, rewrite_events, slices
from receiver.verify.rows import all_organizations, compare_rows, ranges, rewrite_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

    from receiver.progress import Progress
    from receiver.verify.difference import RowDifference


def verify(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[RowDifference]:
    """Yield what differs, of these *organizations* or of all; *connection* is a ``writing_connection``."""
    for slice_ in slices(connection, organizations, progress):
        yield from compare_events(slice_)
    for organization in organizations or all_organizations(connection):
        for after, until, subjects in ranges(connection, organization, progress):
            yield from compare_rows(connection, organization, after, until, subjects)


def rebuild(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[RowDifference]:
    """Write what ``verify`` finds, and yield it once it is written."""
    for slice_ in slices(connection, organizations, progress):
        found = list(compare_events(slice_))
        if found:
            rewrite_events(connection, slice_, found)
            yield from found
    for organization in organizations or all_organizations(connection):
        for after, until, subjects in ranges(connection, organization, progress):
            found = compare_rows(connection, organization, after, until, subjects)
            if found:
                rewrite_rows(connection, organization, found)
                yield from found
