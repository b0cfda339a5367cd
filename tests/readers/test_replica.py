"""The example reader on a streaming replica: nobody can LISTEN there, so it polls, and commits at the primary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from tests.support.following import as_reader, following
from tests.support.program import db
from tests.support.restoring import base_backup, new_place, own_servers, place
from tests.support.roles import libpq, new_role
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.sandbox.embedded import EmbeddedPostgres
    from receiver.settings import Settings

pytestmark = pytest.mark.long
SECONDS = 60


@pytest.fixture
def servers() -> Iterator[Callable[[str], EmbeddedPostgres]]:
    with own_servers("replica") as serve:
        yield serve


def test_reader_polls_a_replica_and_commits_at_the_primary(
    servers: Callable[[str], EmbeddedPostgres], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = servers("primary")
    made = new_place(primary.create_database("receiver"), settings)
    own = make_url(primary.create_database("own"))
    url = made.engine.url
    with new_role(url) as role:
        assert db(url, "grant-reader", role).exit_code == 0
        base_backup(primary, "replica", "--write-recovery-conf")
        replica = servers("replica")
        there = place(replica.url("receiver"))
        assert there.value("SELECT pg_is_in_recovery()") is True
        monkeypatch.setenv("COMMIT_URL", libpq(as_reader(url, role)))
        with following(as_reader(there.engine.url, role), own, "events") as follower:
            made.apply("employee-1")
            assert follower.line() == "1 card_holder.created None"
            committed = "SELECT max(position) FROM ems.consumers"
            assert eventually(lambda: made.value(committed) == 1, within=SECONDS)
            there.engine.dispose()
            replica.kill()
            assert "PostgreSQL is unavailable" in follower.complaint()
            made.apply("employee-2")
            replica.start()
            assert follower.line() == "2 card_holder.created None"
            assert eventually(lambda: made.value(committed) == 2, within=SECONDS)
        made.engine.dispose()
