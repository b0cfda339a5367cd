"""Which stored deliveries a replay is about, and which of them it leaves out."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import text

from receiver.deliveries.models import ABANDONED, TEST
from receiver.errors import OperationRefused
from receiver.ops.deliveries import Filter, error_group
from receiver.ops.deliveries.pages import matching_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

Selection: TypeAlias = "Filter | tuple[int, ...]"
"""Deliveries by what they have in common, or by their ids."""

DELIVERIES_AT_ONCE: Final = 1000
"""How many deliveries are selected in one transaction."""

_TEST: Final = f"(delivery.status = 'ignored' AND coalesce(delivery.error = '{TEST}', false))"
_COUNT: Final = text(
    rf"""
SELECT status, event, error, count(*) AS number, left_out
FROM (
    SELECT *, row_number() OVER (PARTITION BY left_out IS NULL ORDER BY id DESC) AS place
    FROM (
        SELECT id, status, event, split_part(error, E'\n', 1) AS error, CASE
            WHEN {_TEST} THEN 'test' WHEN decision = 'retracted' THEN 'retracted' WHEN status = 'pending' THEN 'waiting'
            WHEN body IS NULL THEN 'without_body'
        END AS left_out
        FROM receiver.deliveries AS delivery WHERE id = ANY(:ids)
    ) AS asked
) AS placed
WHERE left_out IS NOT NULL OR place <= :most
GROUP BY status, event, error, left_out
"""  # noqa: S608 - a constant
)
_SELECT: Final = text(
    f"""
INSERT INTO receiver.replay_deliveries (replay_id, delivery_id, status_before, alone)
SELECT :replay_id, id, status, coalesce(error = :abandoned, false)
FROM receiver.deliveries AS delivery
WHERE id = ANY(:ids) AND status <> 'pending' AND body IS NOT NULL AND NOT {_TEST}
    AND decision IS DISTINCT FROM 'retracted'
ORDER BY id DESC LIMIT :most
ON CONFLICT DO NOTHING
"""  # noqa: S608 - a constant
)
_UNKNOWN: Final = text(
    "SELECT asked.id FROM unnest(CAST(:ids AS bigint[])) AS asked (id) "
    "WHERE NOT EXISTS (SELECT FROM receiver.stored_deliveries AS stored WHERE stored.id = asked.id) ORDER BY 1 LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class SelectionGroup:
    """Deliveries that have status, event and cause in common."""

    status: str
    event: str
    error: str
    """The name of the errors' group; empty without an error."""
    number: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The deliveries that a replay would process, and those that it would leave out."""

    selected: int
    groups: tuple[SelectionGroup, ...]
    """The largest first."""
    tests: int
    """Left out: test deliveries, which never reach the EMS."""
    waiting: int
    """Left out: what waits to be processed anyway."""
    without_body: int
    """Left out: deliveries that cannot be processed, because their bodies are deleted."""
    retracted: int = 0
    """Left out: what was retracted as forged."""
    all_counted: bool = True
    """Whether everything that may match was checked."""


def preview(
    connection: Connection, wanted: Selection, *, limit: int | None = None, seconds: float = math.inf
) -> Preview:
    """Return what a replay of *wanted* would process now, of the newest *limit*. Changes nothing.

    Stops after *seconds* seconds.
    """
    numbers: Counter[tuple[str, str, str]] = Counter()
    left_out: Counter[str] = Counter()
    all_counted, deadline = True, time.monotonic() + seconds
    for ids in batches(connection, wanted):
        if time.monotonic() > deadline:
            all_counted = False
            break
        most = len(ids) if limit is None else limit - numbers.total()
        for row in connection.execute(_COUNT, {"ids": ids, "most": most}):
            if row.left_out:
                left_out[row.left_out] += row.number
            else:
                numbers[row.status, row.event, error_group(row.error)] += row.number
        if numbers.total() == limit:
            break
    return Preview(
        selected=numbers.total(),
        groups=tuple(
            SelectionGroup(*key, number)
            for key, number in sorted(numbers.items(), key=lambda each: (-each[1], each[0]))
        ),
        tests=left_out["test"],
        waiting=left_out["waiting"],
        without_body=left_out["without_body"],
        retracted=left_out["retracted"],
        all_counted=all_counted,
    )


def batches(connection: Connection, wanted: Selection) -> Iterator[list[int]]:
    """Yield the ids of what is *wanted*, tests and the like included, so many at a time as are selected at once.

    Newest first, so that what arrives meanwhile is none of it. Where much is looked at and little of it is wanted some
    are empty: a sign that it goes on.
    """
    if not isinstance(wanted, Filter):
        check_ids(connection, wanted)
        ids = sorted(set(wanted), reverse=True)
        yield from (ids[start : start + DELIVERIES_AT_ONCE] for start in range(0, len(ids), DELIVERIES_AT_ONCE))
        return
    before: int | None = None
    while True:
        found, before = matching_ids(connection, wanted, before=before, limit=DELIVERIES_AT_ONCE)
        yield found
        if before is None:
            return


def check_ids(connection: Connection, ids: Sequence[int]) -> None:
    """Raise ``OperationRefused`` when there is no delivery of one of *ids*."""
    unknown = connection.scalar(_UNKNOWN, {"ids": list(ids)})
    if unknown is not None:
        raise OperationRefused(f"there is no delivery {unknown}; see receiver deliveries list")


def select_batch(connection: Connection, replay_id: int, ids: list[int], most: int) -> int:
    """Make the newest *most* of these deliveries part of a replay, and return how many that were.

    None that is a test, waits, was retracted, or has no body.
    """
    asked = {"replay_id": replay_id, "ids": ids, "abandoned": ABANDONED, "most": most}
    return connection.execute(_SELECT, asked).rowcount
