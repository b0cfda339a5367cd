"""Counting what became of deliveries, once it is certain: what is rolled back was no attempt."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeAlias

from receiver.counters import ATTEMPTS, OTHER
from receiver.events.catalogue import canonical_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Outcome: TypeAlias = tuple[str, str]
"""An event, in any spelling, and the status that its delivery got."""

_noted: Final[ContextVar[list[Outcome] | None]] = ContextVar("outcomes", default=None)


def name_of(event: str) -> str:
    """Return an event's name in the catalogue, for counters and logs; what a sender makes up is ``other``."""
    return canonical_name(event) or OTHER


@contextmanager
def counted_when_committed() -> Iterator[None]:
    """Count what is noted in this block when it ends without an error; forget it otherwise.

    The block holds a transaction, or a part of one that is rolled back alone: blocks may stand in blocks.
    """
    outer, mine = _noted.get(), list[Outcome]()
    token = _noted.set(mine)
    try:
        yield
    finally:
        _noted.reset(token)
    if outer is None:
        _count(mine)
    else:
        outer += mine


def note_outcomes(outcomes: Iterable[Outcome]) -> None:
    """Have attempts counted when they are committed; at once where nobody said when that is."""
    noted = _noted.get()
    if noted is None:
        _count(outcomes)
    else:
        noted += outcomes


def _count(outcomes: Iterable[Outcome]) -> None:
    for event, status in outcomes:
        ATTEMPTS.labels(name_of(event), status).inc()
