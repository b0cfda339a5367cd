"""Every value in ``ems`` can be read by psycopg, pandas and pyarrow, in every time zone."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, text

from receiver.events.catalogue import EVENT_FLAGS
from tests.support.factories import enrichment, sample, snapshot
from tests.support.roles import libpq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
ZONES = ("UTC", "Europe/Stockholm", "Pacific/Kiritimati", "America/Los_Angeles")
RELATIONS = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'ems'::regnamespace AND relkind IN ('r', 'p', 'v') ORDER BY 1"
)

fractions = st.from_regex(r"\A(\.[0-9]{1,12})?\Z")
clocks = st.builds(
    lambda clock, fraction: f"{clock:%H:%M:%S}{fraction}",
    st.times() | st.just(time(23, 59, 59)),
    fractions,
)
offsets = st.sampled_from(["", "Z", "+14:00", "-12:00", "-01:00", "+23:59"])
moments = st.builds(
    lambda day, clock, offset: f"{day.isoformat()}T{clock}{offset}",
    st.dates() | st.sampled_from([date.min, date.max, date.max - timedelta(days=2)]),
    clocks,
    offsets,
)
days = (st.dates() | st.sampled_from([date.min, date.max])).map(date.isoformat)
amounts = (
    st.decimals(allow_nan=False, allow_infinity=False, places=50, min_value=-(10**20), max_value=10**20)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([Decimal("9e23"), Decimal("-0.0"), Decimal("1.10")])
)
words = st.text(max_size=20)


@contextmanager
def in_zone(acme: Acme, zone: str) -> Iterator[Connection]:
    """Connect as pandas wants it, with SQLAlchemy, in a time zone."""
    engine = create_engine(acme.engine.url, connect_args={"options": f"-c TimeZone={zone}"}, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def tables(acme: Acme) -> dict[str, list[tuple[Any, ...]]]:
    """Read all of ``ems`` as its readers do, in each time zone; return what the last one saw."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for zone in ZONES:
        with (
            psycopg.connect(libpq(acme.engine.url), options=f"-c TimeZone={zone}") as connection,
            in_zone(acme, zone) as sqlalchemy_connection,
        ):
            for (relation,) in connection.execute(RELATIONS).fetchall():
                name = f"ems.{relation}"
                cursor = connection.execute(f"TABLE {name}".encode())
                found[name] = cursor.fetchall()
                frame = pd.read_sql(text(f"TABLE {name}"), sqlalchemy_connection)
                assert len(frame) == len(found[name])
                frame.to_string()
                for column in zip(*found[name], strict=True):
                    if not any(isinstance(value, (dict, list)) for value in column):
                        pa.array(column)
    return found


EDGE_OF_TRANSACTIONS = ("23:59:59.9999999", "9999-12-31", 1, "")
EDGES_OF_RECEIPTS = [
    ("2000-01-01T23:59:59+23:59", "23:59:59", "0001-01-01", 1),
    ("2000-01-01T23:59:59+23:59", "23:59:58", "0001-01-01", Decimal("9e23")),
]


def several(*values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Five at a time, because reading all tables costs more than writing to them."""
    return st.lists(st.tuples(*values), min_size=5, max_size=5)


@given(drawn=several(clocks, days, amounts, words))
@settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_of_a_transaction_can_be_read(acme: Acme, drawn: list[tuple[str, str, Any, str]]) -> None:
    clock_of = {}
    for clock, day, amount, words in [EDGE_OF_TRANSACTIONS, *drawn]:
        transaction = str(len(acme.statuses()))
        clock_of[transaction] = time.fromisoformat(clock[:15])
        fields = {"original_amount": amount, "exchange_rate": amount, "purchase_merchant": words, "invoice_date": day}
        acme.deliver_ok(
            CLEARED,
            snapshot("cleared", transaction=transaction, purchase_date=day, purchase_time=clock, **fields),
        )
    acme.process()
    assert set(acme.statuses()) == {"processed"}
    read = {row[1]: row[5] for row in tables(acme)["ems.ledger"] if row[1] in clock_of}
    assert read == clock_of, "digits behind the microsecond are dropped"


@given(drawn=several(moments, clocks, days, amounts))
@settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_of_a_receipt_can_be_read(acme: Acme, drawn: list[tuple[str, str, str, Any]]) -> None:
    for expires, clock, day, amount in [*EDGES_OF_RECEIPTS, *drawn]:
        transaction = str(len(acme.statuses()))
        fields = {"expiration_time": expires, "purchase_date": day, "purchase_time": clock, "original_amount": amount}
        acme.deliver_ok("receipt.fetched", enrichment("receipt.fetched", transaction=transaction, **fields))
    acme.process()
    assert set(acme.statuses()) == {"processed"}
    assert len(tables(acme)["ems.receipts"]) == len(acme.statuses())


def test_every_value_of_every_kind_can_be_read(acme: Acme) -> None:
    for event in EVENT_FLAGS:
        acme.apply(event, sample(event))
    found = tables(acme)
    empty = {name.removeprefix("ems.") for name, rows in found.items() if not rows}
    needs_more = {"closings", "consumers", "feed_horizon", "late_changes"}
    assert empty <= needs_more | {"missing_receipts", "pending_transactions", "possible_duplicates"}
