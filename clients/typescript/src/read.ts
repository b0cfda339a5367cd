// Reads rows of schema `ems` with exact values: amounts, days and times of day as strings, positions as bigint.

import pg from 'pg';
import type { Json, Tables } from './tables.js';

const PARSERS: Record<number, (text: string) => unknown> = {
  20: BigInt, // bigint
  114: exactJson, // json
  1082: String, // date: as a Date it would be a moment in the zone of this process
  1186: String, // interval
  3802: exactJson, // jsonb
};

/** How each type of PostgreSQL is parsed, as `types` of a `pg.Client` or `pg.Pool`. Needed for the types of the rows to be true. */
export const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) => PARSERS[oid] ?? pg.types.getTypeParser(oid, format),
};

/** Parses JSON, with each number as a string: a number of JavaScript does not keep all digits. */
function exactJson(text: string): Json {
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) => (token.startsWith('"') ? token : `"${token}"`)));
}

/** Connects. */
export async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString,
    types,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
  });
  await client.connect();
  return client;
}

/** Returns the rows of a table or view; `rest` is what follows `FROM`: `'WHERE booked_on >= $1'`. */
export async function read<Table extends keyof Tables>(
  client: pg.ClientBase | pg.Pool,
  table: Table,
  rest = '',
  values: unknown[] = [],
): Promise<Tables[Table][]> {
  const result = await client.query(`SELECT * FROM ems.${table} ${rest}`, values);
  return result.rows;
}
