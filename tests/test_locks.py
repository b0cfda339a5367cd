"""No two advisory locks share a key, and none of what holds one for long stops processing."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import event, text

from receiver.bootstrap.rotation import Rotation
from receiver.encryption import Encryption
from receiver.locks import Lock, LockFamily, key_of
from receiver.migrate import upgrade
from receiver.opencard.auth import Access
from receiver.ops.retention.run import run_retention
from receiver.processing.drain import drain
from receiver.progress import Progress
from tests.support.factories import card_holder
from tests.support.session_locks import WAITING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations
    from tests.support.world import World

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


def test_derived_lock_keys_are_distinct() -> None:
    keys = [key_of(family, *parts) for family in LockFamily for parts in ((), (1,), ("1", ""), (11,), (1, 1))]
    assert len(set(keys)) == len(keys)
    assert all(-(2**63) <= key < 0 for key in keys)
    assert key_of(LockFamily.RECONCILE, 7) == key_of(LockFamily.RECONCILE, "7")


def test_every_lock_is_taken_with_a_key_of_the_module() -> None:
    taken = {path: re.findall(r"pg_\w*advisory\w*\(([^)]*)\)", path.read_text()) for path in SOURCES}
    others = {
        str(path): keys for path, keys in taken.items() if set(keys) - {":key", "%(key", "locked", "{int(Lock.FEED"}
    }
    assert others == {}
    assert sum(len(keys) for keys in taken.values()) >= len(Lock)
    numbers = {path: re.findall(r"""["']key["']: *-?\w*\d|(?i:0x0C4D)""", path.read_text()) for path in SOURCES}
    assert {str(path): found for path, found in numbers.items() if found} == {}


class Meanwhile(httpx.HTTPTransport):
    """The network to OpenCard; calls *act* before each request that changes a webhook."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET" and "/webhooks" in request.url.path:
            self._act()
        return super().handle_request(request)


class Traffic:
    """Deliveries that arrive and are processed while something else is running."""

    def __init__(self, organization: Acme) -> None:
        self._organization = organization
        self.processed = 0

    def arrive(self) -> None:
        """Deliver one, and fail unless it is processed while the caller waits."""
        self._organization.deliver_ok("card_holder.created", card_holder(f"employee-{self.processed}", "globex"))
        work = threading.Thread(target=drain, args=(self._organization.engine,), daemon=True)
        work.start()
        work.join(30)
        assert not work.is_alive(), "processing waits for what is running"
        self.processed += 1
        assert self._organization.statuses() == ["processed"] * self.processed


@pytest.fixture
def traffic(organizations: Organizations) -> Traffic:
    return Traffic(organizations.adopt("globex"))


def test_processing_goes_on_during_a_bootstrap(world: World, traffic: Traffic) -> None:
    world.transport = Meanwhile(traffic.arrive)
    assert world.bootstrap().failures == []
    assert world.registered().active
    assert traffic.processed == 1


def test_processing_goes_on_during_a_rotation(world: World, traffic: Traffic) -> None:
    world.bootstrap()
    (webhook_id,) = (webhook.id for webhook in world.store.all() if webhook.organization_reference_id == "acme")
    rotation = Rotation(
        world.engine,
        Encryption(world.settings.encryption_keys),
        Access(world.api_url, str(world.client.account_id), world.client.id, world.client.secret),
        world.public_url,
        transport=Meanwhile(traffic.arrive),
    )
    result = rotation.run([webhook_id], overlap=timedelta(days=1))
    assert (len(result.rotated), result.failures, traffic.processed) == (1, [], 1)


def test_processing_goes_on_during_retention(traffic: Traffic, engine: Engine, settings: Settings) -> None:
    run_retention(engine, settings, progress=Progress(total=lambda _number: traffic.arrive()))
    assert traffic.processed == 1


def test_processing_goes_on_during_a_migration(traffic: Traffic, engine: Engine) -> None:
    def before(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "pg_advisory_unlock" in statement:
            traffic.arrive()

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", before)
        upgrade(connection)
    assert traffic.processed == 1


@pytest.mark.parametrize("lock", sorted(Lock.__members__.keys() - {"FEED"}))
def test_processing_goes_on_while_another_lock_is_held(traffic: Traffic, engine: Engine, lock: str) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": Lock[lock]})
        traffic.arrive()


def test_processing_waits_for_the_feeds_lock(acme: Acme, engine: Engine) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    work = threading.Thread(target=drain, args=(engine,), daemon=True)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": Lock.FEED})
        work.start()
        assert eventually(lambda: acme.value(WAITING) == 1, within=30)
    work.join(30)
    assert acme.statuses() == ["processed"]
