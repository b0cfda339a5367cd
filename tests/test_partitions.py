"""Partitions are made ahead of time, without blocking others; a missing one stops nothing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from receiver import partitions
from receiver.cli import main
from receiver.db import dedicated_connection, engine_for
from receiver.migrate import differences, upgrade
from receiver.partitions import PARTITIONED, ensure_partitions
from receiver.records.epochs import EPOCH_BITS, begin_epoch
from tests.support.roles import new_role, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

SIZE, EVENTS_SIZE = 2**22, 2**24
NEXT = [f"receiver.stored_deliveries_{SIZE}", f"receiver.bodies_{SIZE}", f"receiver.events_{EVENTS_SIZE}"]


@pytest.fixture
def engine(new_database: Callable[[], str]) -> Iterator[Engine]:
    """A migrated database of its own, for partitions stay."""
    engine = engine_for(new_database(), application="tests")
    with engine.connect() as connection:
        upgrade(connection)
    yield engine
    engine.dispose()


def execute(engine: Engine, statement: str, **parameters: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), parameters)


def go_to(engine: Engine, *, delivery: int = 0, position: int = 0) -> None:
    """Let the sequences give out what follows these."""
    for sequence, value in (("receiver.stored_deliveries_id_seq", delivery), ("ems.events_position_seq", position)):
        if value:
            execute(engine, "SELECT setval(CAST(:sequence AS regclass), :value)", sequence=sequence, value=value)


def store(engine: Engine) -> None:
    """Store a delivery as the web process does, and append an event."""
    execute(
        engine,
        "WITH stored AS (INSERT INTO receiver.stored_deliveries (webhook_id, event, verification)"
        " VALUES (1, 'card_holder.created', 'signature') RETURNING id)"
        " INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, '{}', '{}' FROM stored",
    )
    append(engine, "acme")


def append(engine: Engine, organization: str) -> None:
    execute(
        engine,
        "INSERT INTO ems.events"
        " (type, organization_reference_id, occurred_at, source, delivery_id, payload, subject_id)"
        " VALUES ('card_holder.created', :organization, now(), 'push', 1, '{}', 'employee-17')",
        organization=organization,
    )


def places(engine: Engine, table: str) -> list[str]:
    """Return in which partition each row is, in order."""
    key = {"stored_deliveries": "id", "bodies": "delivery_id", "events": "position"}[table.partition(".")[2]]
    with engine.connect() as connection:
        return list(connection.scalars(text(f"SELECT tableoid::regclass::text FROM {table} ORDER BY {key}")))  # noqa: S608


def test_the_next_partitions_are_made_once(engine: Engine) -> None:
    assert ensure_partitions(engine) == NEXT
    assert ensure_partitions(engine) == []
    go_to(engine, delivery=SIZE, position=EVENTS_SIZE)
    assert ensure_partitions(engine) == [
        f"receiver.stored_deliveries_{2 * SIZE}",
        f"receiver.bodies_{2 * SIZE}",
        f"receiver.events_{2 * EVENTS_SIZE}",
    ]


def test_a_new_partition_has_all_that_its_table_has(engine: Engine) -> None:
    ensure_partitions(engine)
    shape = text(
        "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = :table ::regclass),"
        " (SELECT array_agg(contype ORDER BY contype) FROM pg_constraint WHERE conrelid = :table ::regclass),"
        " (SELECT array_agg(ROW(attname, attnotnull, atthasdef)::text ORDER BY attname) FROM pg_attribute"
        "  WHERE attrelid = :table ::regclass AND attnum > 0)"
    )
    with engine.connect() as connection:
        for name in NEXT:
            first = name.rpartition("_")[0] + "_0"
            made, migrated = (connection.execute(shape, {"table": table}).one() for table in (name, first))
            assert made == migrated, name
        assert differences(connection) == []


def test_rows_at_a_boundary_go_to_either_side(engine: Engine) -> None:
    ensure_partitions(engine)
    go_to(engine, delivery=SIZE - 2, position=EVENTS_SIZE - 2)
    for _ in range(2):
        store(engine)
    for name, table in zip(NEXT, ("receiver.stored_deliveries", "receiver.bodies", "ems.events"), strict=True):
        assert places(engine, table) == [name.rpartition("_")[0] + "_0", name]


def test_a_missing_partition_stops_nothing(engine: Engine) -> None:
    go_to(engine, delivery=5 * SIZE, position=5 * EVENTS_SIZE)
    store(engine)
    assert places(engine, "ems.events") == ["receiver.events_default"]
    made = ensure_partitions(engine)
    assert made == [f"receiver.{name.name}_{6 * name.size}" for name in PARTITIONED], "what is present is in default"
    go_to(engine, delivery=6 * SIZE - 2, position=6 * EVENTS_SIZE - 2)
    for _ in range(2):
        store(engine)
    assert places(engine, "receiver.bodies") == ["receiver.bodies_default"] * 2 + [made[1]]
    assert ensure_partitions(engine) == [f"receiver.{name.name}_{7 * name.size}" for name in PARTITIONED]


def test_an_epoch_of_the_feed_has_partitions_of_its_own(engine: Engine) -> None:
    ensure_partitions(engine)
    with closing(dedicated_connection(engine)) as connection:
        epoch = begin_epoch(connection, "a test")
    first, following = ensure_partitions(engine)
    append(engine, "acme")
    assert places(engine, "ems.events") == [first]
    lower = int(first.removeprefix("receiver.events_"))
    assert (lower >> EPOCH_BITS, lower % EVENTS_SIZE) == (epoch, 0)
    assert following == f"receiver.events_{lower + EVENTS_SIZE}"


def test_partitions_are_created_during_reads_and_writes(engine: Engine) -> None:
    with engine.connect() as writer, engine.connect() as reader:
        writer.execute(
            text("INSERT INTO receiver.stored_deliveries (webhook_id, event, verification) VALUES (1, 'e', 'none')")
        )
        reader.execute(text("SELECT FROM ems.events WHERE position BETWEEN 1 AND 100"))
        assert ensure_partitions(engine) == NEXT
        writer.commit()


def test_a_lock_that_is_not_free_is_tried_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "100ms")
    with engine.connect() as other:
        other.execute(text("SELECT count(*) FROM receiver.bodies"))  # of every partition, until it ends
        assert ensure_partitions(engine) == [NEXT[0], NEXT[2]]
        other.rollback()
    assert ensure_partitions(engine) == [NEXT[1]]


def test_restricted_readers_see_nothing_more_by_partitions(engine: Engine) -> None:
    with new_role(engine.url) as role:
        url = engine.url.render_as_string(hide_password=False)
        granted = CliRunner(env={"DATABASE_URL": url}).invoke(
            main, ["db", "grant-reader", role, "--organization", "acme"]
        )
        assert granted.exit_code == 0, granted.output
        ensure_partitions(engine)
        go_to(engine, position=EVENTS_SIZE)
        for organization in ("acme", "globex"):
            append(engine, organization)
        assert places(engine, "ems.events") == [NEXT[2]] * 2
        assert read(engine.url, role, "SELECT organization_reference_id FROM ems.events") == [("acme",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            read(engine.url, role, f"TABLE {NEXT[2]}")
