"""No two advisory locks share a key, and none of what holds one for long stops processing."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.bootstrap.concurrency import one_at_a_time
from receiver.events.process import process_deliveries
from receiver.locks import Lock, LockFamily, key_of
from tests.factories import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from tests.conftest import Acme

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("receiver", "migrations")
    for path in (ROOT / folder).rglob("*.py")
    if path != ROOT / "receiver" / "locks.py"
]


def test_no_two_locks_have_the_same_key() -> None:
    assert len(Lock.__members__) == len({lock.value for lock in Lock}), "an alias is two locks with one key"
    assert all(0 < lock.value < 2**63 for lock in Lock)


def test_derived_keys_meet_neither_each_other_nor_a_fixed_one() -> None:
    keys = [key_of(family, *parts) for family in LockFamily for parts in ((), (1,), ("1", ""), (11,), (1, 1))]
    assert len(set(keys)) == len(keys)
    assert all(-(2**63) <= key < 0 for key in keys)
    assert key_of(LockFamily.RECONCILE, 7) == key_of(LockFamily.RECONCILE, "7")


def test_every_lock_is_taken_with_a_key_of_the_module() -> None:
    taken = {path: re.findall(r"pg_\w*advisory\w*\(([^)]*)\)", path.read_text()) for path in SOURCES}
    others = {str(path): keys for path, keys in taken.items() if set(keys) - {":key", "locked"}}
    assert others == {}
    assert sum(len(keys) for keys in taken.values()) >= len(Lock) + len(LockFamily)
    numbers = {path: re.findall(r"""["']key["']: *-?\w*\d|(?i:0x0C4D)""", path.read_text()) for path in SOURCES}
    assert {str(path): found for path, found in numbers.items() if found} == {}


@contextmanager
def holding(engine: Engine, lock: Lock) -> Iterator[None]:
    """Hold a lock in a transaction of its own, as a process does that is at work for minutes."""
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock})
        yield


HELD: dict[str, Callable[[Engine], object]] = {
    "bootstrap or a rotation": one_at_a_time,
    "a retention run": lambda engine: holding(engine, Lock.RETENTION),
    "a migration": lambda engine: holding(engine, Lock.MIGRATION),
    "a roll-up": lambda engine: holding(engine, Lock.ROLL_UP),
}


@pytest.mark.parametrize("hold", HELD.values(), ids=HELD)
def test_processing_goes_on_while_another_lock_is_held(
    acme: Acme, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, hold: Callable[[Engine], object]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    acme.deliver("card.transaction.authorized", snapshot("authorized"))
    work = threading.Thread(target=process_deliveries, daemon=True)
    with hold(acme.engine):  # type: ignore[attr-defined]
        work.start()
        work.join(30)
        assert not work.is_alive(), "the job waits for the lock"
        assert acme.value("SELECT count(*) FROM ems.events") == 1
