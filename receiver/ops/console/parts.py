"""What every page of the console uses."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlencode

from flask import current_app
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Request
    from sqlalchemy import Connection

    from receiver.ops.console.application import Console
    from receiver.ops.retention.record import Query

MAX_NEWER: Final = 50
"""How many earlier pages the address remembers."""

_ORGANIZATIONS: Final = text("SELECT DISTINCT organization_reference_id FROM receiver.webhooks ORDER BY 1")
_ONE_MOMENT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def console() -> Console:
    """Return what the console works with, of the application at hand."""
    return cast("Console", current_app.extensions["console"])


@contextmanager
def reading() -> Iterator[Connection]:
    """Yield a connection that sees one moment of the database and can change nothing."""
    with console().engine.connect() as connection:
        connection.execute(_ONE_MOMENT)
        yield connection


def query_of(connection: Connection) -> Query:
    """Return how ``read_status`` asks on *connection*."""
    return lambda query: [dict(row) for row in connection.execute(text(query)).mappings()]


def organizations(connection: Connection) -> list[str]:
    """Return the organizations that have a managed webhook."""
    return list(connection.scalars(_ORGANIZATIONS))


def whole(text: str | None) -> int | None:
    """Return the number in an address; ``None`` for anything else, and for what no id can be."""
    if text is None or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text[:20])
    return number if 0 < number < 2**63 else None


@dataclass(frozen=True, slots=True)
class PageLinks:
    """Where the newer and the older page are. The address of a page remembers where those before it began."""

    newer: str | None
    older: str | None

    @classmethod
    def of(cls, request: Request, *, older: int | str | None) -> PageLinks:
        """Return the links of the page at hand; *older* is where the next one begins."""
        at = request.args.get("before", "")
        back = [place for place in request.args.get("back", "").split(".") if place]
        newer = after = None
        if at:
            newer = _with(request, before=back[-1] if back else "", back=back[:-1])
        if older is not None:
            after = _with(request, before=str(older), back=[*back, at][-MAX_NEWER:] if at else [])
        return cls(newer, after)


def _with(request: Request, *, before: str, back: list[str]) -> str:
    """Return the address of the page at hand, with other places in it."""
    kept = [(name, value) for name, value in request.args.items(multi=True) if value and name not in {"before", "back"}]
    trail = [("before", before), ("back", ".".join(back))]
    query = urlencode([*kept, *((name, value) for name, value in trail if value)])
    path = f"{request.root_path}{request.path}"
    return f"{path}?{query}" if query else path
