"""Whatever process hangs, PostgreSQL ends its session within its bound, and others get what it held."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.connections import EXPORT, LONG, MIGRATE, RECONCILE, STORE, WEB, WORK
from receiver.db import engine_for
from tests.test_queue import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from receiver.connections import Bounds
    from receiver.settings import Settings

KEY = 471147
SECONDS = 40
KINDS: dict[str, Bounds] = {
    "a web process that stores": STORE,
    "a web process that reads, and the console": WEB,
    "a worker": WORK,
    "bootstrap, retention and the commands": LONG,
    "reconciling": RECONCILE,
    "an export": EXPORT,
    "a migration": MIGRATE,
}


@pytest.fixture
def other(settings: Settings) -> Iterator[Connection]:
    """A process that needs what the one that hangs holds."""
    engine = engine_for(settings.database_url, application="other")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
    engine.dispose()


def hanging(settings: Settings, bounds: Bounds) -> Engine:
    return engine_for(settings.database_url, application="hangs", bounds=bounds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_hangs_in_a_transaction_loses_its_locks(
    settings: Settings, other: Connection, kind: str
) -> None:
    bounds = KINDS[kind]
    assert bounds.idle_in_transaction, "without a bound it would hold them for as long as it hangs"
    engine = hanging(settings, replace(bounds, idle_in_transaction=1))
    connection = engine.connect()
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": KEY})
    lock = text("SELECT pg_try_advisory_lock(:key) AND pg_advisory_unlock(:key)")
    assert eventually(lambda: bool(other.scalar(lock, {"key": KEY})), within=SECONDS)
    connection.invalidate()
    engine.dispose()


def test_reconciling_that_hangs_between_two_pages_loses_its_webhook(settings: Settings, other: Connection) -> None:
    assert RECONCILE.idle, "its session holds a webhook's lock while OpenCard is asked"
    engine = hanging(settings, replace(RECONCILE, idle=1))
    connection = engine.connect()
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": KEY})
    connection.commit()
    lock = text("SELECT pg_try_advisory_lock(:key) AND pg_advisory_unlock(:key)")
    assert eventually(lambda: bool(other.scalar(lock, {"key": KEY})), within=SECONDS)
    connection.invalidate()
    engine.dispose()
