"""Follows schema ``ems`` as an EMS would, and prints what changes: a template for a program of your own.

    EMS_URL=postgresql://ems_reader:...@host/receiver OWN_URL=postgresql://...  python ems_reader.py ledger

``EMS_URL``: the receiver's database, as a role that ``receiver db grant-reader`` gave access. ``OWN_URL``: your own
database, for your results and your position. Without it they are in temporary tables, which is enough to try it out.
``EMS_URL`` may name a replica, which is polled; then ``COMMIT_URL`` names the primary, where the position is committed.
``CONSUMER``: the consumer's name, if it is not that of the role. There are two ways to follow:

``ledger``  read each changed transaction again. Needs only the current state, and may begin at any time.
``events``  process each event once, in order. Needs every event after your position.

Your results and your position are committed together: if killed at any moment, the program continues where it was. Then
``ems.commit_position`` reports the position: unread events are not deleted, and a reader that stops is noticed.
Needs psycopg 3.2 or newer, and a direct connection: a pooler in transaction mode cannot LISTEN.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = dict[str, Any]
    Connection = psycopg.Connection[Row]
    Process = Callable[[Connection, Connection, Sequence[Row]], list[Row]]

BATCH = 500
LONGEST_WAIT = 60.0
"""Seconds to wait for a notification before reading anyway: a lost one costs a minute, never an event."""
POLL_INTERVAL = 1.0
"""Seconds between two reads of a replica, where no session can LISTEN."""
TABLES = """
CREATE TABLE IF NOT EXISTS feed_positions (follower text PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE IF NOT EXISTS archived_events (
    position bigint PRIMARY KEY, type text, transaction_id text, organization text, subject text, fingerprint bytea
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON archived_events (organization, subject, type, fingerprint)
    WHERE type !~ '^card_holder[.]';
CREATE TABLE IF NOT EXISTS bookings (
    organization text, transaction_id text, state text, amount numeric, currency text, vat numeric, vat_source text,
    merchant text, PRIMARY KEY (organization, transaction_id)
)"""
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('feed_positions'));"
"""Both ways may begin at the same moment: IF NOT EXISTS does not see a table that the other is creating, and fails."""
LINES = """
SELECT organization_reference_id, transaction_id, state, accounting_amount, accounting_currency, vat_amount, vat_source,
    merchant
FROM ems.ledger"""
OF_THESE = " WHERE (organization_reference_id, transaction_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
HORIZON = """
SELECT epoch, epoch_start, epoch_start > %s AS is_new_epoch, deleted_through > %s AS was_deleted
FROM ems.feed_horizon"""
NEWEST = """
SELECT greatest(
    (SELECT max(position) FROM ems.events), (SELECT greatest(deleted_through, epoch_start) FROM ems.feed_horizon), 0
) AS newest"""
BOOK = """
INSERT INTO bookings VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (organization, transaction_id) DO UPDATE SET (state, amount, currency, vat, vat_source, merchant) =
    (excluded.state, excluded.amount, excluded.currency, excluded.vat, excluded.vat_source, excluded.merchant)
WHERE bookings.* IS DISTINCT FROM excluded.* RETURNING *"""
RECEIVER_CHANGED = "receiver.changed"
"""The type of entries for changes without an event of OpenCard."""
DELETE_BOOKINGS = """
DELETE FROM bookings WHERE (organization, transaction_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
RETURNING organization, transaction_id, 'left the ledger' AS news"""
STORE_EVENT = """
INSERT INTO archived_events (position, type, transaction_id, organization, subject, fingerprint)
VALUES (
    %(position)s, %(type)s, %(transaction_id)s, %(organization_reference_id)s, %(subject_id)s, %(fingerprint)s
) ON CONFLICT (organization, subject, type, fingerprint) WHERE type !~ '^card_holder[.]' DO NOTHING
RETURNING position, type, transaction_id"""
STORE_POSITION = "UPDATE feed_positions SET position = %s WHERE follower = %s"


def ledger(ems: Connection, own: Connection, events: Sequence[Row]) -> list[Row]:
    """Read the transactions of *events* again, each once: book what changed, delete bookings without a line."""
    keys = {
        (event["organization_reference_id"], event["transaction_id"]) for event in events if event["transaction_id"]
    }
    lines = ems.execute(LINES + OF_THESE, [[key[0] for key in keys], [key[1] for key in keys]]).fetchall()
    missing = keys - {(line["organization_reference_id"], line["transaction_id"]) for line in lines}
    left = own.execute(DELETE_BOOKINGS, [[key[0] for key in missing], [key[1] for key in missing]]).fetchall()
    return left + [booked for line in lines for booked in own.execute(BOOK, list(line.values())).fetchall()]


def events(_ems: Connection, own: Connection, events: Sequence[Row]) -> list[Row]:
    """Store each event once, also if OpenCard sends it again after a day; event["payload"] has all that it sent.

    Not so those of a card holder, who may be created again after a deletion.
    """
    return [
        row
        for event in events
        if event["type"] != RECEIVER_CHANGED
        for row in own.execute(STORE_EVENT, event).fetchall()
    ]


def start_over(ems: Connection, own: Connection, why: str) -> None:
    """Read the whole ledger, because the events after our position do not name every change; then follow later events.

    Other bookings are kept: what the database lost in a restore will be in the ledger again.
    """
    newest = ems.execute(NEWEST).fetchone()  # before the ledger, which is then at least as new
    for line in ems.cursor().stream(LINES):
        own.execute(BOOK, list(line.values()))
    own.execute(STORE_POSITION, [newest and newest["newest"], "ledger"])
    print(f"read the ledger again: {why}", file=sys.stderr, flush=True)


def begin_epoch(own: Connection, epoch_start: int, why: str) -> None:
    """Continue where the epoch begins: no event is missing, and those that were lost are delivered again."""
    own.execute(STORE_POSITION, [epoch_start, "events"])
    print(f"{why}: events that were lost there are delivered again", file=sys.stderr, flush=True)


def process_batch(ems: Connection, own: Connection, process: Process) -> int:
    """Process the next batch and store its position, in one transaction; return the number of events."""
    with own.transaction():
        at = own.execute(
            "SELECT position FROM feed_positions WHERE follower = %s FOR UPDATE", [process.__name__]
        ).fetchone()
        position = at["position"] if at else 0
        feed = "SELECT * FROM ems.events WHERE position > %s ORDER BY position LIMIT %s"
        batch = ems.execute(feed, [position, BATCH]).fetchall()
        horizon = ems.execute(HORIZON, [position, position]).fetchone()  # after the batch, so at least as new
        if horizon and horizon["was_deleted"]:
            why = f"events after position {position} were deleted"
            if process is not ledger:
                raise SystemExit(why)
            start_over(ems, own, why)
            return 1
        if horizon and horizon["is_new_epoch"]:
            why = f"epoch {horizon['epoch']} of the feed began: the database was restored or failed over"
            if process is ledger:
                start_over(ems, own, why)
                return 1
            batch = [event for event in batch if event["position"] <= horizon["epoch_start"]]
            if not batch:
                begin_epoch(own, horizon["epoch_start"], why)
                return 1
        if not batch:
            return 0
        changes = process(ems, own, batch)
        own.execute(STORE_POSITION, [batch[-1]["position"], process.__name__])
    for change in changes:
        print(*change.values(), flush=True)
    return len(batch)


def commit_position(committing: Connection | None, own: Connection, process: Process) -> None:
    """Commit our position at the service, after our own: it is never ahead of what we have kept."""
    if committing is not None:
        at = own.execute("SELECT position FROM feed_positions WHERE follower = %s", [process.__name__]).fetchone()
        says = "SELECT ems.commit_position(coalesce(%s, session_user::text), %s)"
        committing.execute(says, [os.environ.get("CONSUMER"), at and at["position"]])


def follow(ems: Connection, own: Connection, committing: Connection | None, process: Process) -> None:
    """Follow the feed until interrupted. LISTEN comes before the first read, so that no notification is missed."""
    own.execute(ONE_AT_A_TIME + TABLES if own is not ems else TABLES.replace("CREATE TABLE", "CREATE TEMPORARY TABLE"))
    own.execute("INSERT INTO feed_positions VALUES (%s, 0) ON CONFLICT DO NOTHING", [process.__name__])
    replica = is_replica(ems)
    if not replica:
        ems.execute("LISTEN ems_events")
    while True:
        while process_batch(ems, own, process):
            commit_position(committing, own, process)
        commit_position(committing, own, process)
        if replica:
            time.sleep(POLL_INTERVAL)
        else:
            for _notice in ems.notifies(timeout=LONGEST_WAIT, stop_after=1):
                pass


def is_replica(connection: Connection) -> bool:
    """Return whether nothing can be written there."""
    row = connection.execute("SELECT pg_is_in_recovery() AS replica").fetchone()
    return bool(row and row["replica"])


def connect(url: str) -> Connection:
    """Connect; each statement is a separate transaction, unless one is begun."""
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def main() -> None:
    """Follow, and begin again when a connection is lost."""
    process: Process = {"ledger": ledger, "events": events}[sys.argv[1] if len(sys.argv) > 1 else "ledger"]
    while True:
        try:
            with ExitStack() as connections:
                ems = connections.enter_context(connect(os.environ["EMS_URL"]))
                own = connections.enter_context(connect(os.environ["OWN_URL"])) if "OWN_URL" in os.environ else ems
                primary = None if is_replica(ems) else ems
                if "COMMIT_URL" in os.environ:
                    primary = connections.enter_context(connect(os.environ["COMMIT_URL"]))
                follow(ems, own, primary, process)
        except psycopg.OperationalError as error:
            print(
                f"PostgreSQL is unavailable ({' '.join(str(error).split())}); trying again", file=sys.stderr, flush=True
            )
            time.sleep(1)


if __name__ == "__main__":
    main()
