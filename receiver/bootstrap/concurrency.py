"""How a run is carried out: one at a time, its organizations side by side, one's failure not stopping the others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from receiver.db import held_lock
from receiver.errors import OperationRefused, ReceiverError
from receiver.locks import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine

    from receiver.opencard.webhooks import Organization

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Failure:
    """An organization for which something could not be done."""

    organization_reference_id: str | None
    organization_id: int | None
    error: str


@contextmanager
def one_at_a_time(engine: Engine) -> Iterator[None]:
    """Hold the lock under which webhooks are changed. Raises ``OperationRefused`` when somebody else holds it."""
    with held_lock(engine, Lock.BOOTSTRAP) as held:
        if not held:
            raise OperationRefused("another command is changing webhooks at this moment: wait for it, then run again")
        yield


def side_by_side(
    work: Callable[[T], R],
    items: Sequence[T],
    number: int,
    *,
    organization: Callable[[T], Organization] = lambda item: item,  # type: ignore[assignment,return-value]
) -> tuple[list[tuple[T, R]], list[Failure]]:
    """Do *work* on *items*, *number* at a time; return results in the order of *items*, and the failures.

    When it is interrupted, what is under way is finished and the rest is not begun.
    """
    done: dict[int, R] = {}
    failures: dict[int, Failure] = {}
    executor = ThreadPoolExecutor(number, thread_name_prefix="bootstrap")
    try:
        running = {executor.submit(work, item): place for place, item in enumerate(items)}
        for future in as_completed(running):
            place = running[future]
            try:
                done[place] = future.result()
            except ReceiverError as error:
                failures[place] = failed(organization(items[place]), str(error))
            except SQLAlchemyError as error:
                words = str(getattr(error, "orig", None) or error).partition("\n")[0]
                failures[place] = failed(organization(items[place]), f"PostgreSQL (DATABASE_URL): {words}")
    finally:
        executor.shutdown(cancel_futures=True)
    return [(items[place], done[place]) for place in sorted(done)], [failures[place] for place in sorted(failures)]


def failed(organization: Organization, error: str) -> Failure:
    """Return the failure of an organization."""
    return Failure(organization.reference_id, organization.id, error)
