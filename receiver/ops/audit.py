"""Who did what: one record for each change that a person makes, and for each look at personal data. Append-only.

Neither secrets nor personal data of card holders are ever in it: a record names things by their ids.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, text

from receiver.ops.models import Audit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

_LIST: Final = text(
    """
SELECT id, at, actor, via, address, action, object, reason, outcome, error FROM receiver.audit
WHERE (CAST(:before AS bigint) IS NULL OR id < :before)
    AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
    AND (CAST(:until AS timestamptz) IS NULL OR at < :until)
    AND (CAST(:actor AS text) IS NULL OR actor = :actor)
    AND (CAST(:action AS text) IS NULL OR action = :action)
    AND (CAST(:object AS text) IS NULL OR object = :object)
ORDER BY id DESC LIMIT :limit
"""
)


LONGEST: Final = 1_000
"""Characters of an object; a replay may name thousands of ids."""


class Via(StrEnum):
    """Where a person works with the service."""

    COMMAND_LINE = "command line"
    CONSOLE = "console"


class ActOutcome(StrEnum):
    """The outcome of a recorded act."""

    DONE = "done"
    FAILED = "failed"
    """It did not work, or not wholly: some of it may be done."""
    REFUSED = "refused"
    """Nothing was done: the service does not allow it, or not to this user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act of an operator or user."""

    actor: str
    """A user of the console, or ``user@host`` of the command line."""
    via: Via
    action: str
    """The command that does it, such as ``webhooks rotate-secret``; the console uses the same names."""
    object: str | None = None
    """The object of the act, as the command's arguments name it."""
    address: str | None = None
    """The client's, for the console."""
    reason: str | None = None
    outcome: ActOutcome = ActOutcome.DONE
    error: str | None = None
    """The class of the error, where it failed by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAct(Act):
    """An act on record."""

    id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records; times are aware, a name matches as a whole."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    action: str | None = None
    object: str | None = None


def record(connection: Connection, act: Act) -> None:
    """Record an act, in the transaction of *connection*; what PostgreSQL's text cannot hold becomes U+FFFD or ``?``."""
    connection.execute(insert(Audit).values({name: storable(value) for name, value in asdict(act).items()}))


def storable(value: str | None) -> str | None:
    """Return a text as PostgreSQL takes it: bytes of an argument that are no UTF-8 become ``?``, NUL U+FFFD."""
    return value and value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def list_acts(
    connection: Connection, wanted: AuditFilter = AuditFilter(), *, before: int | None = None, limit: int
) -> list[RecordedAct]:
    """Return what was recorded, newest first; with *before* only what has a smaller id."""
    rows = connection.execute(_LIST, {**asdict(wanted), "before": before, "limit": limit}).mappings()
    return [RecordedAct(**row) for row in rows]


def list_actions(connection: Connection) -> list[str]:
    """Return the names of the actions that were recorded."""
    return list(connection.scalars(text("SELECT DISTINCT action FROM receiver.audit ORDER BY action")))


def arguments(options: Iterable[tuple[str, Any]]) -> str | None:
    """Return names and values as the arguments of a command would be typed, such as ``--status dead``; or ``None``.

    An option that is a flag has the value ``True``; an argument has no name.
    """
    typed = []
    for name, value in options:
        if value is False or value is None:
            continue
        option = f"--{name.replace('_', '-')}" if name else ""
        typed.append(option if value is True else f"{option} {value}".strip())
    text = " ".join(typed)
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]} …") or None
