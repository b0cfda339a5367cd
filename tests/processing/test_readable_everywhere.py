"""Whatever a payload says, its values in ``ems`` can be read by psycopg, pandas and pyarrow, in every time zone."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, example, given, settings
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


@example(clock="23:59:59.9999999", day="9999-12-31", amount=1, words="")
@given(clock=clocks, day=days, amount=amounts, words=words)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_of_a_transaction_can_be_read(acme: Acme, clock: str, day: str, amount: Any, words: str) -> None:
    transaction = str(len(acme.statuses()))
    fields = {"original_amount": amount, "exchange_rate": amount, "purchase_merchant": words, "invoice_date": day}
    acme.apply(
        CLEARED,
        snapshot("cleared", transaction=transaction, purchase_date=day, purchase_time=clock, **fields),
    )
    assert acme.statuses()[-1] == "processed"
    (read,) = (row for row in tables(acme)["ems.ledger"] if row[1] == transaction)
    assert read[5] == time.fromisoformat(clock[:15]), "what is behind a microsecond is cut off"


@example(expires="2000-01-01T23:59:59+23:59", clock="23:59:59", day="0001-01-01", amount=1)
@example(expires="2000-01-01T23:59:59+23:59", clock="23:59:58", day="0001-01-01", amount=Decimal("9e23"))
@example(expires="2000-01-01T23:59:59+23:59", clock="23:59:57", day="0001-01-01", amount=Decimal("9e23"))
@given(expires=moments, clock=clocks, day=days, amount=amounts)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_of_a_receipt_can_be_read(acme: Acme, expires: str, clock: str, day: str, amount: Any) -> None:
    fields = {"expiration_time": expires, "purchase_date": day, "purchase_time": clock, "original_amount": amount}
    acme.apply("receipt.fetched", enrichment("receipt.fetched", **fields))
    assert acme.statuses()[-1] in {"processed", "duplicate"}, "amounts are equal by value"
    assert tables(acme)["ems.receipts"]


def test_every_value_of_every_kind_can_be_read(acme: Acme) -> None:
    for event in EVENT_FLAGS:
        acme.apply(event, sample(event))
    found = tables(acme)
    empty = {name.removeprefix("ems.") for name, rows in found.items() if not rows}
    needs_more = {"closings", "consumers", "feed_horizon", "late_changes"}
    assert empty <= needs_more | {"missing_receipts", "pending_transactions", "possible_duplicates"}
