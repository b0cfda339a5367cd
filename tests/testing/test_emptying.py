"""Each test of an EMS begins with an empty database, of a service that goes on running."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from receiver.migrate import target_metadata
from receiver.testing.emptying import KEPT, empty_database
from tests.support.factories import card_holder
from tests.support.roles import libpq

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.conftest import Acme

ROUNDS = 5
COUNTERS = {"receiver.counters", "receiver.counter_flushes"}
"""What processes that go on running may fill at any moment."""


def test_tables_that_are_kept_exist() -> None:
    assert {table.fullname for table in target_metadata().sorted_tables} >= KEPT


def test_nothing_is_left_but_the_webhook(acme: Acme, engine: Engine) -> None:
    acme.apply("card_holder.created", card_holder("employee-17"))
    empty_database(engine)
    filled = {
        table.fullname
        for table in target_metadata().sorted_tables
        if acme.value(f"SELECT EXISTS (SELECT FROM {table.fullname})")  # noqa: S608 - names of the models
    }
    assert filled - COUNTERS == {"receiver.webhooks", "ems.organizations"}
    acme.apply("card_holder.created", card_holder("employee-17"))
    assert acme.value("SELECT min(position) FROM ems.events") == 1
    assert acme.value("SELECT count(*) FROM ems.card_holders") == 1


def test_emptying_takes_well_under_a_second(acme: Acme, engine: Engine) -> None:
    times = []
    for number in range(ROUNDS):
        acme.apply("card_holder.created", card_holder(f"employee-{number}"))
        began = time.perf_counter()
        empty_database(engine)
        times.append(time.perf_counter() - began)
    assert min(times) < 1


def test_a_lock_that_is_held_for_long_is_waited_for(acme: Acme, engine: Engine) -> None:
    acme.apply("card_holder.created", card_holder("employee-17"))
    with closing(psycopg.connect(libpq(engine.url))) as holder:
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = '2500ms'")
        holder.execute("LOCK TABLE ems.card_holders IN ACCESS SHARE MODE")
        empty_database(engine)
    assert acme.value("SELECT count(*) FROM ems.card_holders") == 0
