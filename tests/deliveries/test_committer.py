"""Deliveries that wait together are committed together; each request gets its own outcome."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import stamina
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from receiver.connections import STORE, open_connection
from receiver.deliveries.committer import STORE_SECONDS, Committer
from receiver.deliveries.store import ArrivedDelivery, connect, connection_pool
from receiver.encryption import Encryption
from receiver.errors import StoreUnavailable
from receiver.processing.drain import drain
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.directory import WebhookDirectory
from tests.support.applications import receiver_with, unreachable_database
from tests.support.factories import body, card_holder
from tests.support.session_locks import WAITING
from tests.support.silence import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from sqlalchemy import Connection

    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

EVENT = "card_holder.created"
NO_TEXT = "card_holder.\0"
"""PostgreSQL refuses NUL in a text."""
SECONDS = 30


@dataclass
class Storing:
    """A committer and requests that wait for it, each in a thread of its own."""

    committer: Committer
    webhooks: WebhookDirectory
    threads: ThreadPoolExecutor
    acme: Acme

    def arrived(self, acme: Acme, event: str = EVENT) -> ArrivedDelivery:
        webhook = self.webhooks.read(acme.path.removeprefix(ENDPOINT_PATH))
        return ArrivedDelivery(webhook, event, None, b"{}", {}, "signature")

    def begin(self, arrived: ArrivedDelivery) -> Future[bool]:
        """Have *arrived* in a statement that cannot go on."""
        begun = self.threads.submit(self.committer.store, arrived)
        eventually(self._storing)
        return begun

    def begin_behind_another(self, *arrived: ArrivedDelivery) -> list[Future[bool]]:
        """Have one delivery of acme's in a statement that cannot go on, and *arrived* waiting behind it."""
        self.begin(self.arrived(self.acme))
        begun = []
        for number, each in enumerate(arrived, 1):
            begun.append(self.threads.submit(self.committer.store, each))
            eventually(lambda number=number: self._waiting() == number)  # type: ignore[misc]
        return begun

    def terminate(self) -> None:
        """End the committer's connection."""
        connection = self.committer._connection
        if connection is not None:
            self.acme.rows("SELECT pg_terminate_backend(:pid, 10000)", pid=connection.info.backend_pid)

    def _waiting(self) -> int:
        return len(self.committer._waiting)

    def _storing(self) -> bool:
        return bool(self.acme.value(f"{WAITING} AND relation = 'receiver.stored_deliveries'::regclass"))


def eventually(condition: Callable[[], bool]) -> None:
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=SECONDS, wait_max=0.05):
        with attempt:
            assert condition()


@pytest.fixture
def limits() -> dict[str, int]:
    """What the committer may hold besides its defaults."""
    return {}


@pytest.fixture
def storing(acme: Acme, settings: Settings, limits: dict[str, int]) -> Iterator[Storing]:
    stamina.instrumentation.set_on_retry_hooks(())
    pool = connection_pool(settings.database_url, size=1)
    pool.open()
    committer = Committer(partial(connect, settings.database_url), **limits)
    with ExitStack() as stack:
        stack.callback(pool.close)
        stack.callback(committer.close)
        threads = stack.enter_context(ThreadPoolExecutor(64))
        yield Storing(committer, WebhookDirectory(pool, Encryption(settings.encryption_keys)), threads, acme)
    stamina.instrumentation.set_on_retry_hooks(None)


@contextmanager
def deliveries_locked(acme: Acme) -> Iterator[Connection]:
    """Keep every insert waiting until the block ends."""
    with acme.engine.begin() as connection:
        connection.execute(text("LOCK receiver.stored_deliveries IN SHARE MODE"))
        yield connection


def stored(acme: Acme) -> list[str]:
    """Return the events, in order of arrival."""
    return [row["event"] for row in acme.rows("SELECT event FROM receiver.deliveries ORDER BY id")]


def test_deliveries_during_a_commit_are_batched_in_order(acme: Acme, storing: Storing) -> None:
    events = [f"event.{number}" for number in range(20)]
    with deliveries_locked(acme):
        begun = storing.begin_behind_another(*(storing.arrived(acme, event) for event in events))
    assert [each.result(SECONDS) for each in begun] == [True] * 20
    assert stored(acme) == [EVENT, *events]
    assert acme.value("SELECT count(DISTINCT xmin::text) FROM receiver.stored_deliveries") == 2


def test_a_delivery_that_cannot_be_stored_refuses_only_itself(acme: Acme, storing: Storing) -> None:
    events = ["event.0", NO_TEXT, "event.1", NO_TEXT, "event.2"]
    with deliveries_locked(acme):
        begun = storing.begin_behind_another(*(storing.arrived(acme, event) for event in events))
    errors = [each.exception(SECONDS) for each in begun]
    assert [isinstance(error, psycopg.DataError) for error in errors] == [False, True, False, True, False]
    assert stored(acme) == [EVENT, "event.0", "event.1", "event.2"]


@given(bad=st.lists(st.booleans(), min_size=1, max_size=12))
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_request_gets_its_own_outcome_in_a_mixed_batch(storing: Storing, bad: list[bool]) -> None:
    storing.acme.execute("DELETE FROM receiver.stored_deliveries")
    events = [NO_TEXT if is_bad else f"event.{number}" for number, is_bad in enumerate(bad)]
    arrived = [storing.arrived(storing.acme, event) for event in events]
    begun = [storing.threads.submit(storing.committer.store, each) for each in arrived]
    assert [each.exception(SECONDS) is not None for each in begun] == bad
    assert sorted(stored(storing.acme)) == sorted(event for event in events if event != NO_TEXT)


def test_changed_webhook_is_checked_again_and_the_rest_stored(
    acme: Acme, organizations: Organizations, storing: Storing
) -> None:
    globex, initech = organizations.adopt("globex"), organizations.adopt("initech")
    arrived = [storing.arrived(each) for each in (acme, globex, acme, initech)]
    with deliveries_locked(acme):
        begun = storing.begin_behind_another(*arrived)
        acme.execute("UPDATE receiver.webhooks SET enabled = false WHERE organization_reference_id = 'globex'")
        acme.execute("UPDATE receiver.webhooks SET updated_at = now() WHERE organization_reference_id = 'initech'")
    assert [each.result(SECONDS) for each in begun] == [True, False, True, False]
    assert len(stored(acme)) == 3
    assert storing.committer.store(storing.arrived(initech))


def test_a_request_that_has_given_up_is_not_stored_later(acme: Acme, storing: Storing) -> None:
    with deliveries_locked(acme):
        storing.begin(storing.arrived(acme, "in.the.statement"))
        with pytest.raises(TimeoutError):
            storing.committer.store(storing.arrived(acme, "given.up"), within=0.05)
    assert storing.committer.store(storing.arrived(acme, "after.it"))
    assert stored(acme) == ["in.the.statement", "after.it"]


@pytest.fixture
def connecting(settings: Settings) -> Iterator[tuple[Committer, Event]]:
    """The committer of another web process, whose way to PostgreSQL is closed until the event is set."""
    may_connect = Event()

    def connect_at_last() -> psycopg.Connection[Any]:
        assert may_connect.wait(SECONDS)
        return connect(settings.database_url)

    committer = Committer(connect_at_last)
    yield committer, may_connect
    may_connect.set()
    committer.close()


def test_request_that_gave_up_while_connecting_is_not_stored(
    acme: Acme, storing: Storing, connecting: tuple[Committer, Event]
) -> None:
    committer, may_connect = connecting
    with pytest.raises(TimeoutError):
        committer.store(storing.arrived(acme, "given.up"), within=0.1)
    may_connect.set()
    assert committer.store(storing.arrived(acme))
    assert stored(acme) == [EVENT]


def test_delivery_that_is_stored_late_leaves_a_retry_a_retry(
    acme: Acme, storing: Storing, connecting: tuple[Committer, Event]
) -> None:
    """The first attempt waits in one process, while its retry and the next event are stored by another."""

    def arrived(event: str) -> ArrivedDelivery:
        return replace(storing.arrived(acme, event), body=body(card_holder()))

    committer, may_connect = connecting
    first = storing.threads.submit(committer.store, arrived("card_holder.created"))
    eventually(lambda: committer._thread is not None)
    for event in ("card_holder.created", "card_holder.deleted"):
        assert storing.committer.store(arrived(event))
    may_connect.set()
    assert first.result(SECONDS)
    assert drain(acme.engine)
    types = [row["type"] for row in acme.rows("SELECT type FROM ems.events ORDER BY position")]
    assert types == ["card_holder.created", "card_holder.deleted"]
    assert acme.value("SELECT deleted_at IS NOT NULL FROM ems.card_holders")


@pytest.mark.parametrize("limits", [{"max_waiting": 3}])
def test_full_queue_refuses_new_deliveries_and_stores_waiting(acme: Acme, storing: Storing) -> None:
    with deliveries_locked(acme):
        begun = storing.begin_behind_another(*(storing.arrived(acme) for _ in range(3)))
        with pytest.raises(StoreUnavailable):
            storing.committer.store(storing.arrived(acme))
    assert [each.result(SECONDS) for each in begun] == [True] * 3
    assert len(stored(acme)) == 4


def test_a_full_queue_is_answered_503_with_retry_after(acme: Acme, settings: Settings) -> None:
    with receiver_with(settings) as app:
        app.extensions["receiver"].committer.max_waiting = 0
        acme.client = app.test_client()
        response = acme.deliver(EVENT, card_holder())
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert stored(acme) == []


@pytest.mark.parametrize("limits", [{"max_bytes": len(b"{}") * 2}])
def test_a_statement_holds_no_more_bytes_than_it_may(acme: Acme, storing: Storing) -> None:
    with deliveries_locked(acme):
        begun = storing.begin_behind_another(*(storing.arrived(acme) for _ in range(6)))
    assert [each.result(SECONDS) for each in begun] == [True] * 6
    assert acme.value("SELECT count(DISTINCT xmin::text) FROM receiver.stored_deliveries") == 4


def test_lost_connection_fails_its_batch_and_is_replaced(acme: Acme, storing: Storing) -> None:
    with deliveries_locked(acme):
        inside = storing.begin(storing.arrived(acme))
        storing.terminate()
        assert isinstance(inside.exception(SECONDS), psycopg.OperationalError)
    assert storing.committer.store(storing.arrived(acme, "after.it"))
    assert stored(acme) == ["after.it"]


def test_hanging_backend_is_left_and_the_next_one_stores(acme: Acme, settings: Settings, storing: Storing) -> None:
    timeouts = replace(STORE, answer=1)
    committer = Committer(partial(open_connection, settings.database_url, application="tests", timeouts=timeouts))
    assert committer.store(storing.arrived(acme, "before"))
    connection = committer._connection
    assert connection is not None
    with frozen(connection.info.backend_pid):
        with pytest.raises(psycopg.OperationalError, match="did not answer within 1 s"):
            committer.store(storing.arrived(acme, "hanging"))
        assert committer.store(storing.arrived(acme, "after.it"))
        assert stored(acme) == ["before", "after.it"]
    committer.close()


def test_deliveries_wait_for_a_backend_only_until_timeout() -> None:
    assert STORE.answer is not None
    assert STORE.statement < STORE.answer < STORE_SECONDS


def test_connection_lost_while_idle_costs_no_delivery(acme: Acme, storing: Storing) -> None:
    assert storing.committer.store(storing.arrived(acme))
    storing.terminate()
    assert storing.committer.store(storing.arrived(acme))
    assert len(stored(acme)) == 2


def test_stored_equals_confirmed_despite_lost_connections(acme: Acme, storing: Storing) -> None:
    arrived = [storing.arrived(acme, f"event.{number}") for number in range(300)]
    begun = []
    for number, each in enumerate(arrived):
        begun.append(storing.threads.submit(storing.committer.store, each))
        if number % 50 == 25:
            storing.terminate()
    types = {each.event for each, outcome in zip(arrived, begun, strict=True) if outcome.exception(SECONDS) is None}
    assert types
    assert types <= set(stored(acme))


def test_without_postgresql_every_request_gets_an_error(storing: Storing) -> None:
    committer = Committer(partial(connect, unreachable_database()))
    arrived = storing.arrived(storing.acme)
    begun = [storing.threads.submit(committer.store, arrived) for _ in range(20)]
    assert all(isinstance(each.exception(SECONDS), psycopg.OperationalError) for each in begun)
    committer.close()


def test_closing_stores_what_waits_and_takes_nothing_more(acme: Acme, storing: Storing) -> None:
    late = storing.arrived(acme)
    with deliveries_locked(acme):
        begun = storing.begin_behind_another(*(storing.arrived(acme) for _ in range(3)))
        closing = storing.threads.submit(storing.committer.close)
        eventually(lambda: storing.committer._closing)
        with pytest.raises(StoreUnavailable):
            storing.committer.store(late)
    assert [each.result(SECONDS) for each in begun] == [True] * 3
    closing.result(SECONDS)
    assert len(stored(acme)) == 4
    assert storing.committer._connection is None


def test_delivery_that_waited_for_very_long_is_stored(storing: Storing, acme: Acme) -> None:
    arrived = replace(storing.arrived(acme), at=monotonic() - 60 * 86_400)
    assert storing.committer.store(arrived)
    assert acme.value("SELECT written_ms FROM receiver.stored_deliveries") == 2**31 - 1
