"""Books every change of the ledger in a database of its own: a template for a program of your own.

``EMS_URL``: the receiver's database, as a role that ``receiver db grant-reader`` gave access. ``OWN_URL``: your own.
``PRIMARY_URL``: the primary, if ``EMS_URL`` is a replica.
With ``events`` as its argument, it stores each event instead.
"""

from __future__ import annotations

import logging
import os
import sys

import psycopg

from opencard_ems import Batch, follow
from opencard_ems.rows import Ledger

TABLES = """
CREATE TABLE IF NOT EXISTS feed_position (position bigint NOT NULL);
INSERT INTO feed_position SELECT 0 WHERE NOT EXISTS (SELECT FROM feed_position);
CREATE TABLE IF NOT EXISTS stored_events (
    position bigint PRIMARY KEY, organization text NOT NULL, type text NOT NULL, subject text NOT NULL,
    fingerprint bytea, transaction_id text
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON stored_events (organization, type, subject, fingerprint)
    WHERE type !~ '^card_holder[.]';
CREATE TABLE IF NOT EXISTS ledger_lines (
    organization text, transaction_id text, amount numeric, currency text, vat numeric, booked_on date NOT NULL,
    PRIMARY KEY (organization, transaction_id)
)"""
STORE = """
INSERT INTO stored_events VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (organization, type, subject, fingerprint) WHERE type !~ '^card_holder[.]' DO NOTHING"""
CANCEL = "DELETE FROM ledger_lines WHERE organization = %s AND transaction_id = %s"
BOOK = """
INSERT INTO ledger_lines VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (organization, transaction_id) DO UPDATE
SET (amount, currency, vat, booked_on) = (excluded.amount, excluded.currency, excluded.vat, excluded.booked_on)"""


def book(own: psycopg.Connection, batch: Batch) -> None:
    """Store the current line of each transaction that changed; none, if it left the ledger."""
    for event in batch.events:
        own.execute(CANCEL, [event.organization_reference_id, event.transaction_id])
    for line in batch.read(Ledger):
        own.execute(
            BOOK,
            [
                line.organization_reference_id,
                line.transaction_id,
                line.accounting_amount,
                line.accounting_currency,
                line.vat_amount,
                line.booked_on,
            ],
        )


def store(own: psycopg.Connection, batch: Batch) -> None:
    """Store each event of OpenCard once, also if OpenCard sends it again after a day.

    Not so those of a card holder, who may be created again after a deletion.
    """
    for event in batch.events:
        if event.type != "receiver.changed":
            own.execute(
                STORE,
                [
                    event.position,
                    event.organization_reference_id,
                    event.type,
                    event.subject_id,
                    event.fingerprint,
                    event.transaction_id,
                ],
            )


def main() -> None:
    """Follow the feed until interrupted."""
    logging.basicConfig()
    every_event = sys.argv[1:] == ["events"]
    with psycopg.connect(os.environ["OWN_URL"], autocommit=True) as own:
        own.execute(TABLES)
        (position,) = own.execute("SELECT position FROM feed_position").fetchone() or (0,)
        primary = os.environ.get("PRIMARY_URL")
        for batch in follow(os.environ["EMS_URL"], position, every_event=every_event, primary=primary):
            with own.transaction():
                store(own, batch) if every_event else book(own, batch)
                own.execute("UPDATE feed_position SET position = %s", [batch.position])
            print(batch.reload or f"{len(batch.events)} events up to {batch.position}", flush=True)


if __name__ == "__main__":
    main()
