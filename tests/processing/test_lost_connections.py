"""A connection that is lost while a delivery is processed says nothing about the delivery."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from receiver.connections import WORK
from receiver.db import engine_for, was_cut_off
from receiver.processing.claim import MAX_WORKER_CRASHES
from receiver.processing.drain import drain
from tests.support.factories import snapshot
from tests.support.session_locks import WAITING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from receiver.settings import Settings
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
SECONDS = 40


@pytest.fixture
def worker(settings: Settings) -> Iterator[Engine]:
    """The connections of a worker in this process."""
    engine = engine_for(settings.database_url, application="other worker", timeouts=WORK)
    yield engine
    engine.dispose()


def test_a_lost_connection_blames_no_delivery(acme: Acme, worker: Engine) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    for _ in range(MAX_WORKER_CRASHES + 1):
        with acme.engine.begin() as locked:
            locked.execute(text("LOCK ems.transactions IN SHARE MODE"))
            ended = cut_while_it_waits(acme, locked, worker)
        assert isinstance(ended, psycopg.Error)
        assert was_cut_off(ended)
    assert acme.row("SELECT status, attempts, alone FROM receiver.deliveries") == {
        "status": "pending",
        "attempts": 0,
        "alone": False,
    }
    assert acme.value("SELECT leased_until FROM receiver.queue") is None
    assert drain(worker)
    assert acme.statuses() == ["processed"]
    assert acme.value("SELECT count(*) FROM receiver.processing_attempts") == 0


def cut_while_it_waits(acme: Acme, locked: Connection, worker: Engine) -> BaseException | None:
    """Have the server end all connections of a worker in the middle of a delivery; return what that raises there."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            drain(worker)
        except psycopg.Error as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    waits = f"{WAITING} AND relation = 'ems.transactions'::regclass"
    assert eventually(lambda: bool(acme.value(waits)), within=SECONDS)
    locked.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'receiver other worker' AND datname = current_database()"
        )
    )
    thread.join(SECONDS)
    return raised[0] if raised else None
