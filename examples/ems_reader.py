"""Follows schema ``ems`` as an EMS would, and prints what changes: a program to learn from, and to start yours with.

    EMS_URL=postgresql://ems_reader:...@host/receiver OWN_URL=postgresql://...  python ems_reader.py ledger

``EMS_URL``: the receiver's database, as a role that ``receiver db grant-reader`` gave access. ``OWN_URL``: your own
database, for your results and your position. Without it they are in temporary tables, which is enough to try it out.
``EMS_URL`` may name a replica, which is polled; then ``COMMIT_URL`` names the primary, where the position is committed.
``CONSUMER``: the consumer's name, if it is not that of the role. There are two ways to follow:

``ledger``  read each changed purchase again. Needs only the current state, and may begin at any time.
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
    Take = Callable[[Connection, Connection, Sequence[Row]], list[Row]]

BATCH = 500
LOOK_ANYWAY = 60.0
"""Seconds after which to look though nothing was heard: a lost notification costs a minute, never an event."""
POLL = 1.0
"""Seconds between two looks at a replica, where nobody can LISTEN."""
TABLES = """
CREATE TABLE IF NOT EXISTS feed_positions (follower text PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE IF NOT EXISTS taken_events (
    position bigint PRIMARY KEY, type text, transaction_id text, organization text, subject text, fingerprint bytea
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON taken_events (organization, subject, type, fingerprint)
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
OURS = "receiver.changed"
"""The type of entries that no event of OpenCard is behind."""
LEFT = """
DELETE FROM bookings WHERE (organization, transaction_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
RETURNING organization, transaction_id, 'left the ledger' AS news"""
TAKE = """
INSERT INTO taken_events (position, type, transaction_id, organization, subject, fingerprint)
VALUES (
    %(position)s, %(type)s, %(transaction_id)s, %(organization_reference_id)s, %(subject_id)s, %(fingerprint)s
) ON CONFLICT (organization, subject, type, fingerprint) WHERE type !~ '^card_holder[.]' DO NOTHING
RETURNING position, type, transaction_id"""
MOVE = "UPDATE feed_positions SET position = %s WHERE follower = %s"


def ledger(ems: Connection, own: Connection, events: Sequence[Row]) -> list[Row]:
    """Re-read the purchases that *events* are about, however many events of each; book what is new, drop what left."""
    keys = {
        (event["organization_reference_id"], event["transaction_id"]) for event in events if event["transaction_id"]
    }
    lines = ems.execute(LINES + OF_THESE, [[key[0] for key in keys], [key[1] for key in keys]]).fetchall()
    gone = keys - {(line["organization_reference_id"], line["transaction_id"]) for line in lines}
    left = own.execute(LEFT, [[key[0] for key in gone], [key[1] for key in gone]]).fetchall()
    return left + [booked for line in lines for booked in own.execute(BOOK, list(line.values())).fetchall()]


def events(_ems: Connection, own: Connection, events: Sequence[Row]) -> list[Row]:
    """Take each event once, also if OpenCard sends it again after a day; event["payload"] has all that it sent.

    Not so those of a card holder, who may be created again after a deletion.
    """
    return [row for event in events if event["type"] != OURS for row in own.execute(TAKE, event).fetchall()]


def start_over(ems: Connection, own: Connection, why: str) -> None:
    """Read the whole ledger, because the events after our position do not say everything; then follow later events.

    Other bookings are kept: what the database lost in a restore will be in the ledger again.
    """
    newest = ems.execute(NEWEST).fetchone()  # before the ledger, which is then at least as new
    for line in ems.cursor().stream(LINES):
        own.execute(BOOK, list(line.values()))
    own.execute(MOVE, [newest and newest["newest"], "ledger"])
    print(f"read the ledger again: {why}", file=sys.stderr, flush=True)


def begin_epoch(own: Connection, epoch_start: int, why: str) -> None:
    """Go on with each event where the epoch begins: none is missing, and those that were lost come once more."""
    own.execute(MOVE, [epoch_start, "events"])
    print(f"{why}: events that were lost there come once more", file=sys.stderr, flush=True)


def take_batch(ems: Connection, own: Connection, take: Take) -> int:
    """Take what comes next and move the position, in one transaction; return how many events that was."""
    with own.transaction():
        at = own.execute(
            "SELECT position FROM feed_positions WHERE follower = %s FOR UPDATE", [take.__name__]
        ).fetchone()
        position = at["position"] if at else 0
        feed = "SELECT * FROM ems.events WHERE position > %s ORDER BY position LIMIT %s"
        batch = ems.execute(feed, [position, BATCH]).fetchall()
        horizon = ems.execute(HORIZON, [position, position]).fetchone()  # after the batch, so at least as new
        if horizon and horizon["was_deleted"]:
            why = f"events after position {position} were deleted"
            if take is not ledger:
                raise SystemExit(why)
            start_over(ems, own, why)
            return 1
        if horizon and horizon["is_new_epoch"]:
            why = f"epoch {horizon['epoch']} of the feed began: the database was restored or failed over"
            if take is ledger:
                start_over(ems, own, why)
                return 1
            batch = [event for event in batch if event["position"] <= horizon["epoch_start"]]
            if not batch:
                begin_epoch(own, horizon["epoch_start"], why)
                return 1
        if not batch:
            return 0
        changes = take(ems, own, batch)
        own.execute(MOVE, [batch[-1]["position"], take.__name__])
    for change in changes:
        print(*change.values(), flush=True)
    return len(batch)


def say_how_far(committing: Connection | None, own: Connection, take: Take) -> None:
    """Commit our position at the service, after our own: it is never ahead of what we have kept."""
    if committing is not None:
        at = own.execute("SELECT position FROM feed_positions WHERE follower = %s", [take.__name__]).fetchone()
        says = "SELECT ems.commit_position(coalesce(%s, session_user::text), %s)"
        committing.execute(says, [os.environ.get("CONSUMER"), at and at["position"]])


def follow(ems: Connection, own: Connection, committing: Connection | None, take: Take) -> None:
    """Follow the feed until interrupted. Listens before it looks, so that nothing falls in between."""
    own.execute(ONE_AT_A_TIME + TABLES if own is not ems else TABLES.replace("CREATE TABLE", "CREATE TEMPORARY TABLE"))
    own.execute("INSERT INTO feed_positions VALUES (%s, 0) ON CONFLICT DO NOTHING", [take.__name__])
    replica = is_replica(ems)
    if not replica:
        ems.execute("LISTEN ems_events")
    while True:
        while take_batch(ems, own, take):
            say_how_far(committing, own, take)
        say_how_far(committing, own, take)
        if replica:
            time.sleep(POLL)
        else:
            for _notice in ems.notifies(timeout=LOOK_ANYWAY, stop_after=1):
                pass


def is_replica(connection: Connection) -> bool:
    """Return whether nothing can be written there."""
    row = connection.execute("SELECT pg_is_in_recovery() AS replica").fetchone()
    return bool(row and row["replica"])


def connect(url: str) -> Connection:
    """Connect; each statement is a transaction of its own, unless one is begun."""
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def main() -> None:
    """Follow, and begin again when a connection is lost."""
    take: Take = {"ledger": ledger, "events": events}[sys.argv[1] if len(sys.argv) > 1 else "ledger"]
    while True:
        try:
            with ExitStack() as connections:
                ems = connections.enter_context(connect(os.environ["EMS_URL"]))
                own = connections.enter_context(connect(os.environ["OWN_URL"])) if "OWN_URL" in os.environ else ems
                primary = None if is_replica(ems) else ems
                if "COMMIT_URL" in os.environ:
                    primary = connections.enter_context(connect(os.environ["COMMIT_URL"]))
                follow(ems, own, primary, take)
        except psycopg.OperationalError as error:
            print(f"PostgreSQL is away ({' '.join(str(error).split())}); trying again", file=sys.stderr, flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
