"""Both clients follow the feed at a real standby of PostgreSQL, and report their position at its primary."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import make_url

from receiver.db import one_connection
from receiver.migrate import upgrade
from tests.support.following import following
from tests.support.restoring import base_backup, own_servers
from tests.support.roles import libpq
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import URL

pytestmark = pytest.mark.long
EVENT = """
INSERT INTO ems.events (type, organization_reference_id, transaction_id, subject_id, occurred_at, source, delivery_id,
    payload)
VALUES ('card.transaction.cleared', 'acme', 't1', 't1', now(), 'push', 1, '{}')
"""


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """The addresses of a migrated primary and of its standby."""
    with own_servers("replica") as serve:
        primary = serve("primary")
        url = primary.create_database("receiver")
        with one_connection(url, application="tests") as connection:
            upgrade(connection)
        base_backup(primary, "standby", "--write-recovery-conf")
        standby = serve("standby")
        yield libpq(make_url(url)), libpq(make_url(standby.url("receiver")))


def test_a_standby_is_followed(
    pair: tuple[str, str], own: URL, program: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby = pair
    monkeypatch.setenv("PRIMARY_URL", primary)
    with (
        closing(psycopg.connect(primary, autocommit=True)) as connection,
        following(make_url(standby), own, "events", program) as follower,
    ):
        for _ in range(2):
            connection.execute(EVENT)
            assert follower.line().startswith("1 events up to ")
        newest = connection.execute("SELECT max(position) FROM ems.events").fetchone()
        assert eventually(lambda: connection.execute("SELECT position FROM ems.consumers").fetchone() == newest)
