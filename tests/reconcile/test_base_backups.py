"""The server is destroyed and a base backup started in its place: after reconciling, nothing is missing anywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

from receiver.app import create_app
from receiver.db import engine_for
from receiver.migrate import upgrade
from receiver.reconcile.schedule import reconcile_due
from receiver.sandbox.faults import Faults
from receiver.sandbox.story import make_story
from receiver.settings import load_settings
from tests.support.following import EMS_READER
from tests.support.reconcile_steps import deliver, ledger_differences, process, rows, value
from tests.support.restoring import base_backup, data_folder, own_servers
from tests.support.roles import libpq
from tests.support.serving import served
from tests.support.world import world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.sandbox.embedded import EmbeddedPostgres
    from tests.support.world import World

RESTORES = int(os.environ.get("RESTORES", "2"))
"""One after the other, of one server; each with another part of the story lost."""
PURCHASES = 4
"""Between two backups, about."""
CARD_HOLDERS_APART = "CASE WHEN type ~ '^card_holder[.]' THEN position END AS position"
"""A reader takes what OpenCard sent once, by its content; of card holders each event, by its position."""
SENT = f"""
SELECT organization_reference_id, subject_id, type, fingerprint, {CARD_HOLDERS_APART}
FROM ems.events WHERE type <> 'receiver.changed'"""  # noqa: S608 - a constant
TAKEN = f"SELECT organization, subject, type, fingerprint, {CARD_HOLDERS_APART} FROM archived_events"  # noqa: S608 - likewise
MEANING = "SELECT position, type, payload FROM ems.events ORDER BY position"
BOOKED = "SELECT organization_reference_id, transaction_id, state, accounting_amount, vat_amount FROM ems.ledger"


@dataclass
class RestorableServer:
    """A PostgreSQL server that can be replaced by a base backup of itself."""

    postgres: EmbeddedPostgres
    folder: Path
    backup: Path

    def back_up(self) -> None:
        base_backup(self.postgres, self.backup.name)

    def restore(self) -> None:
        """Destroy the server and start the backup in its place."""
        self.postgres.kill()
        shutil.rmtree(self.folder)
        self.backup.rename(self.folder)
        self.postgres.start()


class ExampleReader:
    """The example's two ways to follow, with the positions in a database of the reader's own."""

    def __init__(self, ems_url: str, own_url: str) -> None:
        specification = importlib.util.spec_from_file_location("ems_reader", EMS_READER[-1])
        assert specification is not None
        assert specification.loader is not None
        self._program = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self._program)
        self._ems_url, self._own_url = libpq(make_url(ems_url)), libpq(make_url(own_url))
        with closing(self._program.connect(self._own_url)) as own:
            own.execute(self._program.TABLES)
            own.execute("INSERT INTO feed_positions VALUES ('ledger', 0), ('events', 0)")

    def read(self) -> None:
        """Read what is there, in both ways; no position that was seen before may mean something else now."""
        with closing(self._program.connect(self._ems_url)) as ems, closing(self._program.connect(self._own_url)) as own:
            for take in (self._program.ledger, self._program.events):
                while self._program.process_batch(ems, own, take):
                    pass

    def own(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._own_url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def server() -> Iterator[RestorableServer]:
    with own_servers("backups") as serve:
        postgres = serve("postgres")
        folder = data_folder(postgres)
        yield RestorableServer(postgres, folder, folder.parent / "backup")


@pytest.fixture
def acme(server: RestorableServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A receiver on that server, with one registered webhook."""
    url = server.postgres.create_database("receiver")
    own_environment = environment | {"DATABASE_URL": url.replace("postgresql://", "postgresql+psycopg://")}
    settings = load_settings(own_environment)
    engine = engine_for(settings.database_url, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
    app = create_app(settings)
    with served(app) as public_url, world_of(engine, settings, public_url) as world:
        world.add_organizations("acme")
        assert world.bootstrap().failures == []
        for name, setting in world.environment(own_environment).items():
            monkeypatch.setenv(name, setting)
        yield world
    app.extensions["receiver.close"]()
    engine.dispose()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_stays_missing_after_restored_backups(
    seed: int, acme: World, server: RestorableServer, new_database: Callable[[], str]
) -> None:
    """Deliveries that never arrived are missing besides those that are lost with the server."""
    random = Random(seed)  # noqa: S311
    story = make_story(seed=seed, organizations=["acme"], purchases=RESTORES * PURCHASES)
    cuts = [*sorted(random.sample(range(1, len(story.events)), 2 * RESTORES - 1)), len(story.events)]
    reader = ExampleReader(acme.settings.database_url, new_database())
    meanings: dict[int, str] = {}
    known_epoch = 0
    for number in range(RESTORES):
        faults = Faults(lost=random.choice([0, 0.2]), duplicates=0.1, disorder=0.1)
        begin = cuts[2 * number - 1] if number else 0
        for end in cuts[2 * number : 2 * number + 2]:
            deliver(acme, replace(story, events=story.events[begin:end]), faults, seed=random.randrange(1000))
            reader.read()
            meanings |= events_by_position(acme, meanings)
            begin = end
            if not server.backup.exists():
                server.back_up()
        acme.engine.dispose()
        server.restore()
        reconcile_due()
        process(acme)
        reader.read()
        meanings |= events_by_position(acme, meanings)
        epoch = value(acme, "SELECT epoch FROM ems.feed_horizon")
        assert epoch > known_epoch, "the reader learns of it"
        known_epoch = epoch
        assert ledger_differences(acme, replace(story, events=story.events[:begin])) == []
        assert {tuple(row.values()) for row in rows(acme, SENT)} <= set(reader.own(TAKEN)), "no event was missed"
        booked = reader.own("SELECT organization, transaction_id, state, amount, vat FROM bookings")
        assert sorted(booked) == sorted(tuple(row.values()) for row in rows(acme, BOOKED))


def events_by_position(world: World, before: dict[int, str]) -> dict[int, str]:
    """Return what each position of the feed means; none may mean something else than *before*."""
    found = {
        row["position"]: row["type"] + json.dumps(row["payload"], sort_keys=True, default=str)
        for row in rows(world, MEANING)
    }
    assert {position: found[position] for position in found.keys() & before.keys()} == {
        position: before[position] for position in found.keys() & before.keys()
    }
    return found
