"""A difference, and the change that corrects it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.records.write import Outdated, commit

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from receiver.records.write import LogChange

EVENTS: Final = "ems.events"


class RowDifference(NamedTuple):
    """A row of ``ems`` that is not what it follows from."""

    table: str
    key: dict[str, Any]
    problem: str
    """``differs``, ``missing`` or ``unexpected``."""
    columns: dict[str, tuple[Any, Any]]
    """Column → what is stored, and what is expected; of a row that differs."""
    subject: tuple[str, str]
    """Organization and id of what the row is about."""
    position: int | None = None
    delivery_id: int | None = None


def until_written(connection: psycopg.Connection[Any], prepare: Callable[[], LogChange]) -> None:
    """Write a change, prepared again as often as something is added meanwhile."""
    while True:
        with suppress(Outdated):
            commit(connection, prepare())
            return
