"""Whether a delivery could be stored, as a command finds it out over a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.exc import DBAPIError

from receiver.deliveries.store import insert

if TYPE_CHECKING:
    from sqlalchemy import Connection


def why_nothing_is_stored(connection: Connection) -> str | None:
    """Return why PostgreSQL refuses to store deliveries, in its words; ``None`` if it does not.

    It is asked to store none: that tells of a server that is read-only, of a lock on the table, of missing privileges.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - there is no other driver
    try:
        with connection.begin_nested():
            insert(driver, [])
    except (psycopg.Error, DBAPIError) as error:
        return str(getattr(error, "orig", error)).partition("\n")[0]
    return None
