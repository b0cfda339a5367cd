"""``python -m bench.sizes``: the bytes that a delivery takes, by table, and what a billion of them would.

A story with the usual mix of events, duplicates among them, is stored and applied; what PostgreSQL then holds, empty
space removed, is divided by the number of deliveries, and so is what processing wrote to PostgreSQL's log (WAL). Bytes
carry over to other machines, unlike times.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click
from psycopg import sql

from bench import common
from receiver.cli.output import print_rows
from receiver.logs import configure_logs
from receiver.processing.drain import drain
from receiver.sandbox.faults import Faults, schedule
from receiver.sandbox.local import ORGANIZATIONS, local_servers
from receiver.sandbox.story import make_story
from receiver.settings import LogFormat

BILLION: Final = 1_000_000_000
TIB: Final = 2**40
DUPLICATES: Final = Faults(duplicates=0.1)

_SIZES: Final = """
SELECT CAST(whole.relid AS text), CAST(sum(pg_table_size(part.relid)) AS bigint) AS heap,
    CAST(sum(pg_indexes_size(part.relid)) AS bigint) AS indexes
FROM pg_stat_user_tables AS part
CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(part.relid), CAST(part.relid AS regclass)) AS relid) AS whole
WHERE part.schemaname IN ('receiver', 'ems') AND part.n_live_tup > 0
GROUP BY whole.relid
ORDER BY sum(pg_total_relation_size(part.relid)) DESC
"""


@click.command()
@click.option("--purchases", type=click.IntRange(min=100), default=5_000, show_default=True, help="In the story.")
def main(purchases: int) -> None:
    """Print how large a delivery is."""
    configure_logs(level="WARNING", log_format=LogFormat.CONSOLE)
    with local_servers("bench") as servers, closing(common.connect(servers)) as connection:
        registration = common.register(servers)
        sendings = schedule(
            make_story(seed=1, organizations=ORGANIZATIONS[:1], purchases=purchases).events, DUPLICATES, 1
        )
        common.store_bodies(
            connection, registration, [(sending.sent.event, sending.sent.payload) for sending in sendings]
        )
        common.settle_down(connection)
        before = common.wal_position(connection)
        while not drain(servers.engine):
            pass
        written = common.wal_position(connection) - before
        connection.execute("VACUUM FULL ANALYZE")
        print_rows(
            [
                {
                    "table": name,
                    "rows and texts": f"{heap / len(sendings):,.0f}",
                    "indexes": f"{indexes / len(sendings):,.0f}",
                    "a billion": f"{(heap + indexes) / len(sendings) * BILLION / TIB:.2f} TiB",
                }
                for name, heap, indexes in connection.execute(sql.SQL(_SIZES)).fetchall()
                if (heap + indexes) / len(sendings) >= 1
            ],
            {name: name for name in ("table", "rows and texts", "indexes", "a billion")},
            empty="nothing",
        )
        click.echo(f"\nbytes for each of {len(sendings):,} deliveries, {purchases:,} purchases")
        click.echo(f"processing wrote {written / len(sendings):,.0f} bytes of WAL for each")


if __name__ == "__main__":
    main()
