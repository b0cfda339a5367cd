"""Check whether a delivery could be stored, over a separate connection: for commands and ``/readyz``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy.exc import DBAPIError

from receiver.deliveries.store import insert

if TYPE_CHECKING:
    from sqlalchemy import Connection

# where the database is, and with so little memory that it goes to the disk
_ON_DISK: Final = b"SELECT set_config('temp_tablespaces', '', true), set_config('work_mem', '64kB', true)"
_SOME_BLOCKS: Final = b"SELECT count(*) FROM generate_series(1, 20000)"


def check_disk_space(connection: psycopg.Connection[Any]) -> None:
    """Have PostgreSQL write some blocks to the database's disk and remove them. Raises psycopg's errors.

    On a full disk a table takes rows as long as one of its pages has room, and then none.
    """
    with connection.transaction(force_rollback=True):
        connection.execute(_ON_DISK, prepare=False)
        connection.execute(_SOME_BLOCKS, prepare=False)


def storage_error(connection: Connection) -> str | None:
    """Return why PostgreSQL refuses to store deliveries, in its words; ``None`` if it does not.

    It is asked to store none: that reveals a server that is read-only, of a lock on the table, of missing privileges;
    and whether there is room on its disk.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - there is no other driver
    try:
        with connection.begin_nested():
            insert(driver, [])
            check_disk_space(driver)
    except (psycopg.Error, DBAPIError) as error:
        return str(getattr(error, "orig", error)).partition("\n")[0]
    return None
