"""What the benchmarks share: prebuilt deliveries, and a database in the same state before each measurement."""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from rq import Queue, Worker
from sqlalchemy import make_url

from receiver.partitions import PARTITIONED, ensure_partitions
from receiver.queue import QUEUE
from receiver.sandbox.local import ORGANIZATIONS, LocalServers, adopt_webhook
from receiver.sandbox.story import make_story
from receiver.sandbox.story_events import read
from receiver.webhooks.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis import Redis

    from receiver.sandbox.registration import Registration

EVENT: Final = "card.transaction.cleared"
"""Most deliveries are transaction snapshots, and of these every purchase has this one."""
TEMPLATES: Final = 300

_STORE: Final = """
WITH arrived AS MATERIALIZED (
    SELECT nextval('receiver.stored_deliveries_id_seq') AS id, sent.* FROM sent
), stored AS (
    INSERT INTO receiver.stored_deliveries (id, webhook_id, event, version, verification)
    SELECT id, webhook_id, event, '1', 'signature+basic' FROM arrived
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, body, headers FROM arrived
)
INSERT INTO receiver.queue (delivery_id) SELECT id FROM arrived
"""


class Snapshot(NamedTuple):
    """A delivery's body, the transaction in it, and its organization."""

    transaction_id: str
    body: bytes
    organization: str


def libpq_url(servers: LocalServers) -> str:
    """Return the database's address as libpq's programs take it."""
    url = make_url(servers.settings.database_url).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def connect(servers: LocalServers) -> psycopg.Connection:
    """Return an autocommitting connection of its own."""
    return psycopg.connect(libpq_url(servers), autocommit=True)


def register(servers: LocalServers) -> Registration:
    """Adopt the webhook of one organization: signature and basic authentication."""
    credentials = Credentials(basic_username="opencard", basic_password="benchmark")  # noqa: S106 - nobody's
    with servers.engine.begin() as connection:
        return adopt_webhook(connection, servers.settings, ORGANIZATIONS[0], number=1, credentials=credentials)


def register_many(servers: LocalServers, number: int) -> list[Registration]:
    """Adopt the webhooks of *number* organizations: ``organization-01``, ``organization-02``, and so on."""
    with servers.engine.begin() as connection:
        return [
            adopt_webhook(connection, servers.settings, f"organization-{each:02}", number=each)
            for each in range(1, number + 1)
        ]


def number_webhooks(connection: psycopg.Connection, ids: Sequence[tuple[int, int]]) -> None:
    """Give the webhooks, in the order in which they were adopted, OpenCard's ids: of each organization and webhook."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE receiver.webhooks SET organization_id = %s, opencard_webhook_id = %s WHERE id = %s",
            [(*of_opencard, number) for number, of_opencard in enumerate(ids, start=1)],
        )


def snapshots(number: int, organizations: Sequence[str] = ORGANIZATIONS[:1]) -> Iterator[Snapshot]:
    """Yield snapshots of *number* distinct transactions, of each organization in turn; the same ones in every run."""
    story = make_story(seed=1, organizations=ORGANIZATIONS[:1], purchases=TEMPLATES)
    templates = [sent.payload for sent in story.events if sent.event == EVENT]
    split = [re.split(b"|".join((read(each)["id"].encode(), ORGANIZATIONS[0].encode())), each) for each in templates]
    for count in range(number):
        before, between, after = split[count % len(split)]
        taken, organization = transaction_id(count), organizations[count % len(organizations)]
        body = b"".join((before, taken.encode(), between, organization.encode(), after))
        yield Snapshot(taken, body, organization)


def transaction_id(count: int) -> str:
    """Return the id of the transaction in one of ``snapshots``, which are counted from 0."""
    return str(uuid.UUID(int=count + 1, version=4))


def request_bytes(registration: Registration, body: bytes, *, port: int) -> bytes:
    """Return the whole HTTP request that delivers *body* to the receiver on *port*."""
    headers = {"Host": f"127.0.0.1:{port}", **kept_headers(registration, body), **registration.headers(EVENT, body)}
    lines = [f"POST {urlsplit(registration.url).path} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def kept_headers(registration: Registration, body: bytes) -> dict[str, str]:
    """Return the headers that the receiver stores with *body*."""
    sent = registration.headers(EVENT, body)
    sent.pop("Authorization", None)
    return {"User-Agent": "OpenCard", "Accept": "*/*", "Content-Length": str(len(body)), **sent}


def store_all(connection: psycopg.Connection, registration: Registration, stored: list[Snapshot]) -> None:
    """Store *stored* as the web process would, in one go."""
    store_bodies(connection, registration, ((EVENT, snapshot.body) for snapshot in stored))


def store_bodies(connection: psycopg.Connection, registration: Registration, sent: Iterable[tuple[str, bytes]]) -> None:
    """Store events and their bodies, in this order, as the web process would, in one go."""
    row = connection.execute("SELECT id FROM receiver.webhooks").fetchone()
    assert row is not None
    connection.execute("CREATE TEMP TABLE sent (webhook_id bigint, event text, body bytea, headers jsonb)")
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY sent (webhook_id, event, body, headers) FROM STDIN") as copy,
    ):
        for event, body in sent:
            copy.write_row((row[0], event, body, json.dumps(kept_headers(registration, body))))
    connection.execute(_STORE)
    connection.execute("DROP TABLE sent")


def empty_tables(connection: psycopg.Connection) -> None:
    """Empty every table but the webhooks, with their numbers starting again."""
    tables = connection.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('receiver', 'ems', 'bench') "
        "AND tablename NOT IN ('webhooks', 'alembic_version')"
    ).fetchall()
    names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
    connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))


def settle_down(connection: psycopg.Connection) -> None:
    """Get what the server would do later done now, so that no measurement pays for another one's writes."""
    connection.execute("VACUUM (ANALYZE)")
    connection.execute("CHECKPOINT")


def allow_connections(servers: LocalServers, number: int) -> None:
    """Restart PostgreSQL with so many connections: what is compared keeps its own while another is measured."""
    with closing(connect(servers)) as connection:
        connection.execute(sql.SQL("ALTER SYSTEM SET max_connections = {}").format(number))
    servers.engine.dispose()
    servers.postgres.kill()
    servers.postgres.start()


def make_room(servers: LocalServers, connection: psycopg.Connection, number: int) -> None:
    """Let the next delivery and the next event be numbered after *number*, with partitions for all before them."""
    sizes = [table.size for table in PARTITIONED]
    for reached in (*range(1, number, min(sizes)), number):
        for table in PARTITIONED:
            connection.execute("SELECT setval(%s, %s)", (table.sequence, reached))
        ensure_partitions(servers.engine)


def wal_position(connection: psycopg.Connection) -> int:
    """Return how many bytes PostgreSQL has written to its log so far."""
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def count(servers: LocalServers, table: str) -> int:
    """Return the number of rows of *table*."""
    schema, _, name = table.partition(".")
    with closing(connect(servers)) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))).fetchone()
    assert row is not None
    return int(row[0])


def wait_for_port(port: int, *, within: float) -> None:
    """Return when something listens on *port* of the loopback interface. Raises ``TimeoutError``."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on port {port} after {within} s") from None
            time.sleep(0.05)
        else:
            return


def wait_for_idle_workers(redis: Redis, number: int, *, within: float) -> None:
    """Return when so many workers wait for deliveries, and no job is under way. Raises ``TimeoutError``."""
    deadline = time.monotonic() + within
    queue = Queue(QUEUE, connection=redis)
    while [worker.get_state() for worker in Worker.all(redis, queue=queue)] != ["idle"] * number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{number} workers were not idle within {within} s")
        time.sleep(0.02)
