"""What can be exported, what a window of time means for it, and its query. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMESTAMP: Final = "timestamp with time zone"
_ISO: Final = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class By(StrEnum):
    """The date that a window of time compares."""

    BOOKED = "booked"
    PURCHASE = "purchase"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True)
class Source:
    """A table or view of schema ``ems`` that can be exported."""

    relation: str
    order: tuple[str, ...]
    times: Mapping[By, str]
    """The columns that a window of time may be about; the first is used unless another is asked for."""
    condition: str = "true"
    of_purchase: bool = False
    """Whether the days are those of the purchase that a row belongs to, in ``ems.transactions``."""

    @property
    def default(self) -> By:
        """The date that a window compares by default."""
        return next(iter(self.times))


_IN_PURCHASES: Final = """(source.organization_reference_id, source.transaction_id) IN (
    SELECT purchase.organization_reference_id, purchase.id FROM ems.transactions AS purchase WHERE {}
)"""
_DAYS: Final = {By.BOOKED: "booked_on", By.PURCHASE: "purchase_date"}
_LINE: Final = ("organization_reference_id", "transaction_id")
# the states say nothing, but let the index over state and time find the window
_ALL_STATES: Final = "state IN ('authorized', 'deleted', 'cleared', 'invoiced')"
SOURCES: Final[Mapping[str, Source]] = {
    "transactions": Source(
        "ems.transactions",
        ("updated_at", "organization_reference_id", "id"),
        {By.UPDATED: "updated_at", **_DAYS},
        _ALL_STATES,
    ),
    "ledger": Source("ems.ledger", ("booked_on", *_LINE), {**_DAYS, By.UPDATED: "updated_at"}),
    "ledger_vat": Source("ems.ledger_vat", ("booked_on", *_LINE, "percentage"), {**_DAYS, By.UPDATED: "updated_at"}),
    "ledger_journal": Source(
        "ems.ledger_journal", ("position", "line"), {By.BOOKED: "booked_on", By.UPDATED: "recorded_at"}
    ),
    "line_items": Source(
        "ems.line_items", (*_LINE, "line_number"), {**_DAYS, By.UPDATED: "occurred_at"}, of_purchase=True
    ),
    "receipts": Source("ems.receipts", (*_LINE, "url_sha256"), {**_DAYS, By.UPDATED: "updated_at"}, of_purchase=True),
    "invoices": Source(
        "ems.invoices",
        ("organization_reference_id", "id"),
        {By.BOOKED: "invoice_date", By.UPDATED: "updated_at"},
    ),
    "card_holders": Source(
        "ems.card_holders", ("organization_reference_id", "reference_id"), {By.UPDATED: "updated_at"}
    ),
    "events": Source("ems.events", ("position",), {By.UPDATED: "recorded_at"}),
}


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows: from *since* on, before *until*, of *organizations*; what is empty limits nothing."""

    since: datetime | None = None
    until: datetime | None = None
    organizations: tuple[str, ...] = ()
    by: By | None = None
    """The date that the times are compared with; ``None``: the source's first one."""

    def parameters(self, source: Source) -> dict[str, object]:
        """Return the parameters of the queries. A day counts as its midnight in UTC."""
        whole_days = (self.by or source.default) is not By.UPDATED
        conditions = {
            "since": _day(self.since) if whole_days else self.since,
            "until": _day(self.until) if whole_days else self.until,
            "organizations": list(self.organizations),
        }
        return {name: value for name, value in conditions.items() if value}


def _day(moment: datetime | None) -> date | None:
    """Return the first day that begins at *moment* or after it."""
    if moment is None:
        return None
    begun = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return begun.date() if begun == moment else (begun + timedelta(days=1)).date()


def count_query(source: Source, window: Window) -> str:
    """Return the query that counts the rows."""
    return f"SELECT count(*) FROM {source.relation} AS source WHERE {_where(source, window)}"  # noqa: S608 - names are ours


def rows_query(source: Source, window: Window, columns: Mapping[str, str], how: Format) -> str:
    """Return the query of the rows, in order; *columns*: name → type, as PostgreSQL calls it.

    PostgreSQL itself writes what is to be text, because it writes its numbers and documents exactly.
    """
    each = ", ".join(f'{_written(name, kind, how)} AS "{name}"' for name, kind in columns.items())
    order = ", ".join(f"source.{name}" for name in source.order)
    query = f"SELECT {each} FROM {source.relation} AS source WHERE {_where(source, window)} ORDER BY {order}"  # noqa: S608
    return f"SELECT row_to_json(line.*)::text FROM ({query}) AS line" if how is Format.JSONL else query  # noqa: S608


def _where(source: Source, window: Window) -> str:
    by = window.by or source.default
    column = source.times[by]
    of_purchase = source.of_purchase and by is not By.UPDATED
    table = "purchase" if of_purchase else "source"
    limits = []
    if window.since is not None:
        limits.append(f"{table}.{column} >= :since")
    if window.until is not None:
        limits.append(f"{table}.{column} < :until")
    if limits and of_purchase:
        limits = [_IN_PURCHASES.format(" AND ".join(limits))]
    if window.organizations:
        limits.append("source.organization_reference_id = ANY(:organizations)")
    return " AND ".join([source.condition, *limits])


def _written(name: str, kind: str, how: Format) -> str:
    column = f'source."{name}"'
    if how is Format.PARQUET:
        return column if kind in NATIVE else f"{column}::text"
    if kind == TIMESTAMP:
        return _ISO.format(column)
    return column if how is Format.JSONL else f"{column}::text"


NATIVE: Final = frozenset(
    {TIMESTAMP, "numeric", "bigint", "integer", "smallint", "boolean", "date", "time without time zone"}
)
"""Types that Parquet has as well; all others become texts."""
