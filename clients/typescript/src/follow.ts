// Follows the change feed of schema `ems`, `ems.events`.

import pg from 'pg';
import { connect, read } from './read.js';
import type { Event, FeedHorizon, Tables } from './tables.js';

const IDLE = 60_000; // milliseconds to wait for a notification before reading anyway, so that a lost one costs a minute
const POLL = 1_000; // between two reads of a replica, where no session can LISTEN
const LONGEST_PAUSE = 30_000; // between two attempts to connect
const LOST = /^(08|40|53|57|55P03)/; // classes of SQLSTATE after which to connect again
const REFUSED = '22023'; // a restored database that has not reached the position yet
const NEWEST = `
SELECT greatest(
    (SELECT max(position) FROM ems.events), (SELECT greatest(deleted_through, epoch_start) FROM ems.feed_horizon), 0
) AS newest`;

export interface FollowOptions {
  /** The receiver's database; it may be a replica, which is polled. */
  url: string;
  /** 0n at first, and then that of the last batch whose work you stored. */
  position: bigint;
  /** You process each event once, instead of reading again what changed. */
  everyEvent?: boolean;
  batchSize?: number;
  /** Name under which the position is committed; by default that of the role. */
  consumer?: string | undefined;
  /** With a replica: where the position is committed, if anywhere. */
  primary?: string | undefined;
  /** Ends the iteration. */
  signal?: AbortSignal | undefined;
  /** false: end when nothing is new. */
  wait?: boolean;
  /** Gets a line for each lost connection; `console.warn` by default. */
  log?: (line: string) => void;
}

/** Tables and views with rows for each transaction. */
export type OfTransactions =
  | { [Table in keyof Tables]: Tables[Table] extends { transaction_id: string } ? Table : never }[keyof Tables]
  | 'transactions';

/** Events after the position were deleted, so that not every event can be read. */
export class EventsDeletedError extends Error {}

/** Events to process. Store `position` in the transaction in which you store your results. */
export class Batch {
  readonly #feed: Feed;

  constructor(
    feed: Feed,
    /** In order of position; may be empty. */
    readonly events: Event[],
    /** The position to continue from. */
    readonly position: bigint,
    /** Why all rows are to be read again: the events do not name every change after your position. Usually null. */
    readonly reload: string | null = null,
  ) {
    this.#feed = feed;
  }

  /** Returns the rows of the transactions that the events are about, as they are now; all rows if `reload` is set. */
  async read<Table extends OfTransactions>(table: Table): Promise<Tables[Table][]> {
    if (this.reload !== null) return this.#feed.retry((client) => read(client, table));
    const events = this.events.filter((event) => event.transaction_id !== null);
    const id = table === 'transactions' ? 'id' : 'transaction_id';
    const where = `WHERE (organization_reference_id, ${id}) IN (SELECT * FROM unnest($1::text[], $2::text[]))`;
    const keys = [events.map((event) => event.organization_reference_id), events.map((event) => event.transaction_id)];
    return this.#feed.retry((client) => read(client, table, where, keys));
  }
}

/**
 * Yields what changed after a position. When you ask for the next batch, the position of the one before is committed with
 * `ems.commit_position`. A lost connection is opened again; only a first one that fails is thrown.
 *
 * Throws `EventsDeletedError` with `everyEvent`, if an operator deleted events that you have not read.
 */
export async function* follow(options: FollowOptions): AsyncGenerator<Batch, void, undefined> {
  const feed = new Feed(options);
  let position = options.position;
  try {
    await feed.commit(position);
    while (!options.signal?.aborted) {
      const batch = await feed.next(position);
      if (batch !== null) {
        yield batch;
        position = batch.position;
      } else if (options.wait ?? true) {
        await feed.wait();
      } else {
        return;
      }
      await feed.commit(position);
    }
  } catch (error) {
    if (!options.signal?.aborted) throw error;
  } finally {
    await feed.close();
  }
}

/** The feed over connections that are opened again when they are lost. */
class Feed {
  #client: pg.Client | null = null;
  #isReplica = false;
  #wasConnected = false;
  #notified = false;
  #wake = () => {};
  #committed: bigint | null = null;
  #commitAgainAt = 0;

  constructor(readonly options: FollowOptions) {
    options.signal?.addEventListener('abort', () => this.#wake());
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    await client?.end().catch(() => {});
  }

  /** Returns what `work` does, which is repeated on a new connection when one is lost. */
  async retry<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> {
    for (let pause = 500; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      try {
        return await work(await this.#connected());
      } catch (error) {
        if (!this.#wasConnected || !isLost(error) || this.options.signal?.aborted) throw error;
        this.#log(`PostgreSQL is not available (${error}), next attempt in ${pause / 1000} s`);
      }
      await this.close();
      await this.#pause(pause);
    }
  }

  async #connected(): Promise<pg.Client> {
    if (this.#client === null) {
      const client = await connect(this.options.url);
      this.#client = client;
      client.on('error', () => this.#wake()); // the next query fails, and connects again
      client.on('notification', () => {
        this.#notified = true;
        this.#wake();
      });
      this.#isReplica = (await client.query('SELECT pg_is_in_recovery() AS replica')).rows[0].replica;
      if (!this.#isReplica) await client.query('LISTEN ems_events'); // before the first read, so that no notification is missed
      this.#wasConnected = true;
    }
    return this.#client;
  }

  /** Returns the batch after `position`, or null if nothing is new. */
  async next(position: bigint): Promise<Batch | null> {
    this.#notified = false;
    const [events, horizon] = await this.retry(async (client): Promise<[Event[], FeedHorizon | undefined]> => {
      const rest = 'WHERE position > $1 ORDER BY position LIMIT $2';
      const events = await read(client, 'events', rest, [position, this.options.batchSize ?? 500]);
      return [events, (await read(client, 'feed_horizon'))[0]]; // after the events, so at least as new
    });
    if (horizon !== undefined && horizon.deleted_through > position) {
      const why = `events after position ${position} were deleted`;
      if (this.options.everyEvent) throw new EventsDeletedError(why);
      return this.#reload(why);
    }
    if (horizon !== undefined && horizon.epoch_start > position) {
      if (!this.options.everyEvent) {
        return this.#reload(`epoch ${horizon.epoch} of the feed began: the database was restored or failed over`);
      }
      // none of the epoch is missing, and what was lost before it is delivered again
      const ofOldEpoch = events.filter((event) => event.position <= horizon.epoch_start);
      return new Batch(this, ofOldEpoch, ofOldEpoch.at(-1)?.position ?? horizon.epoch_start);
    }
    const last = events.at(-1);
    return last === undefined ? null : new Batch(this, events, last.position);
  }

  /** Returns a batch with the newest position: what is read after it is at least as new. */
  async #reload(why: string): Promise<Batch> {
    const result = await this.retry((client) => client.query(NEWEST));
    return new Batch(this, [], result.rows[0].newest, why);
  }

  /** Returns when something may be new. */
  async wait(): Promise<void> {
    if (!this.#notified) await this.#pause(this.#isReplica ? POLL : IDLE);
  }

  /** Reports that everything up to `position` is stored; the same position once a minute, as a heartbeat. */
  async commit(position: bigint): Promise<void> {
    if (position === this.#committed && Date.now() < this.#commitAgainAt) return;
    const report = async (client: pg.Client): Promise<void> => {
      try {
        await client.query('SELECT ems.commit_position(coalesce($1, session_user::text), $2)', [this.options.consumer, position]);
      } catch (error) {
        if (!(error instanceof pg.DatabaseError && error.code === REFUSED)) throw error;
      }
    };
    if (this.options.primary !== undefined) {
      try {
        const primary = await connect(this.options.primary);
        primary.on('error', () => {});
        await report(primary).finally(() => primary.end());
      } catch (error) {
        if (!isLost(error)) throw error;
        this.#log(`position not committed, the primary is not available (${error})`); // what a replica has can still be read
      }
    } else if (!(await this.retry(async () => this.#isReplica))) {
      await this.retry(report);
    }
    this.#committed = position;
    this.#commitAgainAt = Date.now() + IDLE;
  }

  /** Returns after so many milliseconds, or when woken. */
  async #pause(milliseconds: number): Promise<void> {
    if (this.options.signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }

  #log(line: string): void {
    (this.options.log ?? console.warn)(line);
  }
}

function isLost(error: unknown): boolean {
  return error instanceof pg.DatabaseError ? LOST.test(error.code ?? '') : !(error instanceof TypeError);
}
