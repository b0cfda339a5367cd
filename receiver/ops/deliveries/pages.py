"""Lists of deliveries: newest first, page by page, without bodies and without personal data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.ops.deliveries.searches import MAX_EXAMINED, OUT_OF_ORDER, search

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping

    from receiver.ops.deliveries.filter import Filter
    from receiver.ops.deliveries.searches import Search

FIRST_LOOK: Final = 4
"""How many times a page's length is looked at first."""
COLUMNS: Final = (
    "id, webhook_id, event, version, source, verification, received_at, occurred_at, status, attempts, "
    "next_attempt_at, processed_at, confirmed_at, decision, transaction_id, error"
)
_ORGANIZATIONS: Final = text("SELECT id, organization_reference_id FROM receiver.webhooks WHERE id = ANY(:ids)")


_PROOFS: Final = {
    "basic": "basic credentials",
    "custom": "the custom header",
    "oauth": "an OAuth token",
    "signature-by-previous-secret": "signature by the previous secret",
    "basic-by-previous-credentials": "the previous basic credentials",
    "custom-by-previous-credentials": "the previous custom header",
    "oauth-by-previous-credentials": "an OAuth token of the previous credentials",
}


def verified_by(verification: str) -> str:
    """Return in words what proved a delivery, such as ``signature and basic credentials``."""
    return " and ".join(_PROOFS.get(proof, proof) for proof in verification.split("+"))


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """A delivery as lists show it."""

    id: int
    organization_reference_id: str
    webhook_id: int
    event: str
    version: str | None
    source: str
    verification: str
    received_at: datetime
    occurred_at: datetime
    status: str
    attempts: int
    next_attempt_at: datetime | None
    processed_at: datetime | None
    confirmed_at: datetime | None
    decision: str | None
    """An operator's decision, if OpenCard's log does not have it: ``accepted`` or ``retracted``."""
    transaction_id: str | None
    """Once it was parsed."""
    error: str | None
    """Of the last attempt; its first line."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some deliveries, newest first, and where to go on."""

    rows: tuple[DeliverySummary, ...]
    before: int | None
    """Ask for what is before this; ``None`` when there is nothing more. There may be more though *rows* are few: a
    page looks at so many deliveries at most."""
    looked_back_to: datetime | None
    """When the last checked delivery was received; ``None`` if all that may match were checked."""


def list_deliveries(
    connection: Connection,
    wanted: Filter,
    *,
    before: int | None = None,
    limit: int = 50,
    max_examined: int = MAX_EXAMINED,
) -> Page:
    """Return the newest *limit* of the deliveries that are *wanted*; *before*: those with a smaller id only.

    It reads at most *max_examined* deliveries, so that it is quick for every filter.
    """
    found, end = _find(connection, wanted, COLUMNS, before=before, limit=limit, max_examined=max_examined)
    rows = summaries(connection, found)
    return Page(rows, None, None) if end is None else Page(rows, end["id"], end["received_at"])


def matching_ids(
    connection: Connection, wanted: Filter, *, before: int | None = None, limit: int, max_examined: int = MAX_EXAMINED
) -> tuple[list[int], int | None]:
    """Return the ids of a page, newest first, and where to go on; ``None`` when there is nothing more."""
    found, end = _find(connection, wanted, "id, received_at", before=before, limit=limit, max_examined=max_examined)
    return [row["id"] for row in found], None if end is None else end["id"]


def _find(
    connection: Connection, wanted: Filter, columns: str, *, before: int | None, limit: int, max_examined: int
) -> tuple[Sequence[RowMapping], RowMapping | None]:
    """Return a page's rows, and the delivery behind which the next begins; ``None`` when there is none."""
    # First at few: PostgreSQL would read and sort all that a page may look at, though the first ones are enough.
    for look in sorted({min(FIRST_LOOK * limit, max_examined), max_examined}):
        asked = search(connection, wanted, before=before, max_examined=look)
        query = text(asked.select(columns))
        found = connection.execute(query, {**asked.parameters, "limit": limit + 1}).mappings().all()
        if len(found) > limit:
            return found[:limit], found[limit - 1]
        end = _end_of_what_was_looked_at(connection, asked)
        if end is None or (wanted.since is not None and end["received_at"] < wanted.since - OUT_OF_ORDER):
            return found, None
    return found, end


def _end_of_what_was_looked_at(connection: Connection, asked: Search) -> RowMapping | None:
    """Return the last delivery that was looked at, ``None`` when that was because there are no more."""
    return connection.execute(text(asked.last()), asked.parameters).mappings().one_or_none()


def summaries(connection: Connection, rows: Iterable[Mapping[str, Any] | RowMapping]) -> tuple[DeliverySummary, ...]:
    """Return *rows* of ``COLUMNS`` with the organizations that they are of."""
    rows = list(rows)
    ids = sorted({row["webhook_id"] for row in rows})
    organizations = {row.id: row.organization_reference_id for row in connection.execute(_ORGANIZATIONS, {"ids": ids})}
    return tuple(
        DeliverySummary(
            **{
                **row,
                "organization_reference_id": organizations.get(row["webhook_id"], ""),
                "error": None if row["error"] is None else row["error"].partition("\n")[0],
            }
        )
        for row in rows
    )
