"""The ledger's journal, compared with the ledger that it is to add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.events.content import decode
from receiver.records.journal import AMOUNTS, JOURNAL, LINE
from receiver.records.tables import qualified
from receiver.sql import read_sql
from receiver.verify.difference import RowDifference

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

_COMPARE: Final = read_sql(
    __package__,
    "compare_journal",
    ledger=", ".join(LINE),
    sums=", ".join(["sum(sign) AS lines", *(f"sum({name}) AS {name}" for name in AMOUNTS)]),
    present=", ".join(
        ["sums.lines"]
        + [
            # an amount that is null in the last line has lines of other times that cancel each other out
            f"CASE WHEN last.{name} IS NULL AND coalesce(sums.{name}, 0) = 0 THEN NULL ELSE sums.{name} END AS {name}"
            if name in AMOUNTS
            else f"last.{name}"
            for name in LINE
        ]
    ),
    expected_columns=qualified("expected", LINE),
    present_columns=qualified("present", LINE),
)


def compare_journal(
    connection: psycopg.Connection[Any], organization: str, after: str, until: str | None
) -> Iterator[RowDifference]:
    """Yield the purchases, of a range of ids, whose lines do not add up to their line in the ledger."""
    range_ = {"organization": organization, "after": after, "until": until}
    for present, expected in connection.execute(_COMPARE, range_, prepare=False):
        stored = {} if present is None else decode(present.encode())
        wanted = {} if expected is None else {"lines": 1, **decode(expected.encode())}
        columns = {}
        if stored and wanted:
            columns = {name: (stored[name], wanted[name]) for name in wanted if stored[name] != wanted[name]}
        problem = "missing" if not stored else "unexpected" if not wanted else "differs"
        transaction = (stored or wanted)["transaction_id"]
        key = {"organization_reference_id": organization, "transaction_id": transaction}
        yield RowDifference(JOURNAL, key, problem, columns, (organization, transaction))
