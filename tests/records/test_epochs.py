"""A position of the feed never means two things, though PostgreSQL was restored, failed over, or lost commits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from receiver.events.kinds import KIND_OF
from receiver.locks import Lock
from receiver.ops.recover import recover
from receiver.ops.retracting import retract_deliveries
from receiver.progress import Progress
from receiver.records.epochs import begin_epoch, compare_history, notice_branch
from receiver.records.history import Subject
from receiver.records.rewrite import rewriting
from receiver.records.write import ChangeReason, Outdated, commit, writing_connection
from receiver.verify.run import rebuild
from tests.support.restoring import (
    Place,
    base_backup,
    chown_like,
    copied,
    data_folder,
    dump,
    new_place,
    own_servers,
    place,
    restore,
)
from tests.support.roles import connected_as, new_role
from tests.support.service_states import miss_all_in_the_log
from tests.support.session_locks import WAITING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.sandbox.embedded import EmbeddedPostgres
    from receiver.settings import Settings


@pytest.fixture
def original(new_database: Callable[[], str], settings: Settings) -> Iterator[Place]:
    made = new_place(new_database(), settings)
    made.apply("employee-1", "employee-2")
    yield made
    made.engine.dispose()


@pytest.fixture
def copy(new_database: Callable[[], str]) -> Iterator[Callable[[Place], Place]]:
    """Copies a database."""
    made = []

    def copy(original: Place) -> Place:
        made.append(copied(original, new_database()))
        return made[-1]

    yield copy
    for each in made:
        each.engine.dispose()


@pytest.fixture
def restored(original: Place, copy: Callable[[Place], Place]) -> Place:
    """A copy of the original, which went on meanwhile."""
    restored = copy(original)
    original.apply("employee-3", "employee-4")
    return restored


def test_no_epoch_begins_without_a_branch(original: Place) -> None:
    original.engine.dispose()
    original.apply("employee-3")
    notice_branch(original.engine)
    original.apply("employee-4")
    assert max(original.positions()) < 1000
    assert original.rows("SELECT epoch, epoch_start, reason FROM receiver.feed_epochs") == [(0, 0, None)]
    assert original.rows("SELECT * FROM ems.feed_horizon") == []


def test_a_restored_database_begins_an_epoch(original: Place, restored: Place) -> None:
    restored.apply("employee-5")
    assert restored.epoch_of("employee-5") == 1
    ((epoch, start, deleted_through),) = restored.rows(
        "SELECT epoch, epoch_start, deleted_through FROM ems.feed_horizon"
    )
    assert (epoch, start >> 40, deleted_through) == (1, 1, 0)
    assert restored.value("SELECT min(position) FROM ems.events WHERE position > 1000") == start + 1
    assert restored.rows("SELECT epoch, reason FROM receiver.feed_epochs ORDER BY 1") == [
        (0, None),
        (1, "another database"),
    ]
    before, after = original.positions(), restored.positions()
    assert {number: before[number] for number in before.keys() & after.keys()} == {
        number: name for number, name in after.items() if number < 1000
    }
    restored.apply("employee-6")
    assert restored.epochs() == [1]


@pytest.mark.parametrize("act", ["retract", "rebuild"])
def test_every_write_to_ems_begins_the_epoch(restored: Place, act: str) -> None:
    deliveries = [delivery for (delivery,) in restored.rows("SELECT id FROM receiver.deliveries ORDER BY id")]
    miss_all_in_the_log(restored.engine, "acme")
    if act == "retract":
        retract_deliveries(restored.engine, deliveries[:1], by="kim@ops", reason="forged")
    else:
        restored.execute("DELETE FROM ems.card_holders WHERE reference_id = 'employee-1'")
        with closing(writing_connection(restored.engine)) as connection:
            assert len(list(rebuild(connection, None, Progress()))) == 1
    assert restored.epochs() == [1]
    assert restored.value("SELECT max(position) >> 40 FROM ems.events") == 1


def test_a_backup_restored_twice_gives_no_position_twice(original: Place, copy: Callable[[Place], Place]) -> None:
    first, second = copy(original), copy(original)
    first.apply("employee-3")
    second.apply("employee-4")
    assert (first.epoch_of("employee-3"), second.epoch_of("employee-4")) == (1, 1)
    start = second.value("SELECT epoch_start FROM ems.feed_horizon")
    assert max(first.positions()) < start, "a reader of the first learns of the second"


def test_tables_restored_in_place_begin_an_epoch(original: Place) -> None:
    dumped = dump(original.url)
    original.apply("employee-3")
    original.execute("DROP SCHEMA ems, receiver CASCADE")
    original.engine.dispose()
    restore(original.url, dumped)
    original.apply("employee-4")
    assert original.epoch_of("employee-4") == 1
    assert original.value("SELECT reason FROM receiver.feed_epochs WHERE epoch = 1") == "ems.events was created again"


@pytest.fixture
def servers() -> Iterator[Callable[[str], EmbeddedPostgres]]:
    with own_servers("epochs") as serve:
        yield serve


def test_another_timeline_begins_an_epoch(servers: Callable[[str], EmbeddedPostgres], settings: Settings) -> None:
    server = servers("primary")
    made = new_place(server.create_database("receiver"), settings)
    made.apply("employee-1")
    folder = data_folder(server)
    made.engine.dispose()
    server.kill()
    (folder / "recovery.signal").touch()
    chown_like(folder, [folder / "recovery.signal"])
    with (folder / "postgresql.auto.conf").open("a") as configuration:
        configuration.write("restore_command = 'false'\n")
    server.start()
    assert eventually(lambda: not made.value("SELECT pg_is_in_recovery()"), within=60)
    made.apply("employee-2")
    assert made.epoch_of("employee-2") == 1
    assert "another timeline" in made.value("SELECT reason FROM receiver.feed_epochs WHERE epoch = 1")
    made.apply("employee-3")
    assert made.epochs() == [1]
    made.engine.dispose()


def test_history_that_branches_before_the_append_is_read_again(
    servers: Callable[[str], EmbeddedPostgres], settings: Settings
) -> None:
    server = servers("standby")
    made = new_place(server.create_database("receiver"), settings)
    made.apply("employee-1")
    folder = data_folder(server)
    made.engine.dispose()
    server.kill()
    (folder / "standby.signal").touch()
    chown_like(folder, [folder / "standby.signal"])
    server.start()
    subject = Subject(KIND_OF["card_holder.created"], "acme", "employee-1")
    with closing(writing_connection(made.engine)) as connection:
        read_before = rewriting(connection, {1: subject}, {}, ChangeReason.ROWS_REBUILT)
        assert read_before.history.database_is_known
        connection.execute("SELECT pg_promote()")
        with pytest.raises(Outdated, match="the history of PostgreSQL branched"):
            commit(connection, read_before)
        assert (made.epochs(), list(made.positions())) == ([], [1])
        commit(connection, rewriting(connection, {1: subject}, {}, ChangeReason.ROWS_REBUILT))
    start = made.value("SELECT epoch_start FROM ems.feed_horizon")
    assert (made.epochs(), list(made.positions())) == ([1], [1, start + 1])
    made.engine.dispose()


def test_a_base_backup_begins_an_epoch(servers: Callable[[str], EmbeddedPostgres], settings: Settings) -> None:
    server = servers("primary")
    original = new_place(server.create_database("receiver"), settings)
    original.apply("employee-1")
    base_backup(server, "backup")
    original.apply("employee-2")
    original.engine.dispose()
    server.kill()
    restored = place(servers("backup").url("receiver"))
    restored.apply("employee-3")
    assert restored.epoch_of("employee-3") == 1
    assert restored.value("SELECT reason FROM receiver.feed_epochs WHERE epoch = 1") == "started from a base backup"
    restored.apply("employee-4")
    assert restored.epochs() == [1]
    restored.engine.dispose()


def test_two_workers_begin_one_epoch(restored: Place) -> None:
    with (
        closing(writing_connection(restored.engine)) as one,
        closing(writing_connection(restored.engine)) as other,
        restored.engine.connect() as holder,
        ThreadPoolExecutor(2) as pool,
    ):
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        both = [pool.submit(compare_history, connection) for connection in (one, other)]
        assert eventually(lambda: restored.value(WAITING) == 2, within=30)
        holder.rollback()
        for each in both:
            each.result(timeout=30)
    assert restored.epochs() == [1]
    restored.apply("employee-5", "employee-6")
    start = restored.value("SELECT epoch_start FROM ems.feed_horizon")
    assert list(restored.positions())[-2:] == [start + 1, start + 2]


def test_history_is_not_stored_for_an_epoch_that_ended_meanwhile(original: Place) -> None:
    original.execute("UPDATE receiver.feed_epochs SET timeline = NULL")
    with (
        closing(writing_connection(original.engine)) as connection,
        closing(writing_connection(original.engine)) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.execute(f"BEGIN; SELECT pg_advisory_xact_lock({int(Lock.FEED)})")
        comparing = pool.submit(compare_history, connection)
        assert eventually(lambda: original.value(WAITING) == 1, within=30)
        assert begin_epoch(holder, "receiver recover") == 1
        comparing.result(timeout=30)
    assert original.rows("SELECT epoch, timeline IS NULL FROM receiver.feed_epochs ORDER BY 1") == [
        (0, True),
        (1, False),
    ]


def test_a_branch_is_noticed_though_nothing_arrives(restored: Place) -> None:
    notice_branch(restored.engine)
    assert restored.epochs() == [1]


def test_epochs_grow_with_each_restore(restored: Place, copy: Callable[[Place], Place]) -> None:
    restored.apply("employee-5")
    again = copy(restored)
    again.apply("employee-6")
    assert (again.epochs(), again.epoch_of("employee-6")) == ([1, 2], 2)


def test_unknown_history_begins_no_epoch(original: Place) -> None:
    original.execute("UPDATE receiver.feed_epochs SET timeline = NULL, system_identifier = NULL")
    original.apply("employee-3")
    assert original.epochs() == []
    assert original.value("SELECT timeline IS NOT NULL AND system_identifier IS NOT NULL FROM receiver.feed_epochs")


def test_a_server_that_refuses_to_say_is_tolerated(original: Place) -> None:
    with new_role(original.engine.url) as role:
        original.execute("REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_lsn() FROM PUBLIC")
        original.execute(f'GRANT USAGE ON SCHEMA ems, receiver TO "{role}"')
        with connected_as(original.engine.url, role) as connection:
            seen = connection.execute("SELECT * FROM receiver.feed_history()").fetchone()
        original.execute(f'REVOKE ALL ON SCHEMA ems, receiver FROM "{role}"')
    assert seen is not None
    assert [each is None for each in seen] == [True, True, True, False, False]


def test_processing_continues_when_postgresql_hides_its_history(original: Place) -> None:
    known = original.value("SELECT receiver.feed_history()::text")
    original.execute("ALTER FUNCTION receiver.feed_history RENAME TO whole_history")
    original.execute(
        "CREATE FUNCTION receiver.feed_history(OUT system_identifier bigint, OUT timeline integer, "
        "OUT backup_label bytea, OUT database_oid bigint, OUT events_oid bigint) LANGUAGE sql STABLE AS "
        "'SELECT CAST(NULL AS bigint), CAST(NULL AS integer), CAST(NULL AS bytea), database_oid, events_oid "
        "FROM receiver.whole_history()'"
    )
    assert original.value("SELECT receiver.feed_history()::text") != known
    original.apply("employee-3")
    assert original.epoch_of("employee-3") == 0
    assert original.epochs() == []


def test_by_hand_an_epoch_begins_where_none_is_open(original: Place) -> None:
    done = recover(original.engine)
    assert (done.epoch, done.begun, done.reason, done.webhooks_to_reconcile) == (1, True, "receiver recover", 1)
    original.apply("employee-3")
    assert original.epoch_of("employee-3") == 1


def test_by_hand_the_epoch_that_began_is_acknowledged(restored: Place) -> None:
    restored.apply("employee-5")
    assert [recover(restored.engine).begun for _ in range(2)] == [False, True]
    assert restored.epochs() == [1, 2]


def test_listening_readers_hear_of_an_epoch(original: Place) -> None:
    with psycopg.connect(original.url.replace("+psycopg", ""), autocommit=True) as listener:
        listener.execute("LISTEN ems_events")
        recover(original.engine)
        (notice,) = listener.notifies(timeout=10, stop_after=1)
    with original.engine.connect() as connection:
        assert int(notice.payload) == connection.scalar(text("SELECT epoch_start FROM ems.feed_horizon"))
