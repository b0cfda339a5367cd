"""Deploys, which charts mark: each ``receiver db upgrade``, the release process, whatever the version.

Where that is not run, the first start of a scheduler with another version than the one noted last.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.locks import Lock

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from receiver.ops.retention.record import Query

PACKAGE: Final = "opencard-receiver"
MAX_DEPLOYS: Final = 20
"""How many deploys a chart marks."""

_RELEASE: Final = text("INSERT INTO receiver.deploys (version) VALUES (:version)")
_ALONE: Final = text("SELECT pg_try_advisory_xact_lock(:key)")
_NOTE: Final = text(
    """
INSERT INTO receiver.deploys (version) SELECT CAST(:version AS text)
WHERE :version IS DISTINCT FROM (SELECT version FROM receiver.deploys ORDER BY id DESC LIMIT 1)
"""
)
_SINCE: Final = text(
    """
SELECT version, at FROM (SELECT id, version, at FROM receiver.deploys ORDER BY id DESC LIMIT :most) AS newest
WHERE at >= :since ORDER BY id
"""
)
_LAST: Final = "SELECT version, at FROM receiver.deploys ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Deploy:
    """A version, and when it was released, or a scheduler first ran with it (UTC)."""

    version: str
    at: datetime


def note_release(connection: Connection) -> None:
    """Note that this version is released now, on a connection without a transaction."""
    with connection.begin():
        connection.execute(_RELEASE, {"version": version(PACKAGE)})


def note_version(engine: Engine, running: str | None = None) -> bool:
    """Note the version of this process if the last one noted was another; return whether no other process was doing so.

    *running*: the version, by default that of the installed package.
    """
    with engine.begin() as connection:
        if not connection.scalar(_ALONE, {"key": Lock.DEPLOYS}):
            return False
        connection.execute(_NOTE, {"version": running or version(PACKAGE)})
    return True


def read_deploys(connection: Connection, since: datetime) -> list[Deploy]:
    """Return the deploys *since* then, oldest first; of the newest ``MAX_DEPLOYS``."""
    return [Deploy(row.version, row.at) for row in connection.execute(_SINCE, {"since": since, "most": MAX_DEPLOYS})]


def read_last_deploy(query: Query) -> Deploy | None:
    """Return the last deploy; ``None`` before the first."""
    return next((Deploy(**each) for each in query(_LAST)), None)
