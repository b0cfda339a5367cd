// Books every change of the ledger in a database of its own: a template for a program of your own.
//
// EMS_URL: the receiver's database, as a role that `receiver db grant-reader` gave access. OWN_URL: your own.
// PRIMARY_URL: the primary, if EMS_URL is a replica.
// With `events` as its argument, it stores each event instead.

import pg from 'pg';
import { type Batch, connect, follow } from './index.js';

const TABLES = `
CREATE TABLE IF NOT EXISTS feed_position (position bigint NOT NULL);
INSERT INTO feed_position SELECT 0 WHERE NOT EXISTS (SELECT FROM feed_position);
CREATE TABLE IF NOT EXISTS stored_events (
    position bigint PRIMARY KEY, organization text NOT NULL, type text NOT NULL, subject text NOT NULL, fingerprint bytea,
    transaction_id text
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON stored_events (organization, type, subject, fingerprint)
    WHERE type !~ '^card_holder[.]';
CREATE TABLE IF NOT EXISTS ledger_lines (
    organization text, transaction_id text, amount numeric, currency text, vat numeric, booked_on date NOT NULL,
    PRIMARY KEY (organization, transaction_id)
)`;
const STORE = `
INSERT INTO stored_events VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (organization, type, subject, fingerprint) WHERE type !~ '^card_holder[.]' DO NOTHING`;
const CANCEL = 'DELETE FROM ledger_lines WHERE organization = $1 AND transaction_id = $2';
const BOOK = `
INSERT INTO ledger_lines VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (organization, transaction_id) DO UPDATE
SET (amount, currency, vat, booked_on) = (excluded.amount, excluded.currency, excluded.vat, excluded.booked_on)`;

/** Stores the current line of each transaction that changed; none, if it left the ledger. */
async function book(own: pg.Client, batch: Batch): Promise<void> {
  for (const event of batch.events) {
    await own.query(CANCEL, [event.organization_reference_id, event.transaction_id]);
  }
  for (const line of await batch.read('ledger')) {
    await own.query(BOOK, [
      line.organization_reference_id,
      line.transaction_id,
      line.accounting_amount,
      line.accounting_currency,
      line.vat_amount,
      line.booked_on,
    ]);
  }
}

/**
 * Stores each event of OpenCard once, also if OpenCard sends it again after a day.
 * Not so those of a card holder, who may be created again after a deletion.
 */
async function store(own: pg.Client, batch: Batch): Promise<void> {
  for (const event of batch.events) {
    if (event.type === 'receiver.changed') continue;
    await own.query(STORE, [
      event.position,
      event.organization_reference_id,
      event.type,
      event.subject_id,
      event.fingerprint,
      event.transaction_id,
    ]);
  }
}

const everyEvent = process.argv[2] === 'events';
const own = await connect(process.env.OWN_URL ?? '');
await own.query(TABLES);
const { rows } = await own.query('SELECT position FROM feed_position');
const url = process.env.EMS_URL ?? '';
for await (const batch of follow({ url, position: rows[0].position, everyEvent, primary: process.env.PRIMARY_URL })) {
  await own.query('BEGIN');
  await (everyEvent ? store : book)(own, batch);
  await own.query('UPDATE feed_position SET position = $1', [batch.position]);
  await own.query('COMMIT');
  console.log(batch.reload ?? `${batch.events.length} events up to ${batch.position}`);
}
