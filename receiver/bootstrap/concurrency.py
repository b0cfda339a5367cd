"""One run at a time, its organizations in parallel; a failure of one does not stop the others."""

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

    from receiver.db import HeldLock
    from receiver.opencard.webhooks import Organization

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class OrganizationFailure:
    """The failure of an organization, with the reason."""

    organization_reference_id: str | None
    organization_id: int | None
    error: str


@contextmanager
def one_at_a_time(engine: Engine) -> Iterator[HeldLock]:
    """Hold the lock for changing webhooks. Raises ``OperationRefused`` when another process holds it."""
    with held_lock(engine, Lock.BOOTSTRAP) as held:
        if not held:
            raise OperationRefused("another command is changing webhooks at this moment: wait for it, then run again")
        yield held


def in_parallel(
    work: Callable[[T], R],
    items: Sequence[T],
    parallelism: int,
    *,
    organization: Callable[[T], Organization] = lambda item: item,  # type: ignore[assignment,return-value]
) -> tuple[list[tuple[T, R]], list[OrganizationFailure]]:
    """Do *work* on *items*, *parallelism* at a time; return results in the order of *items*, and the failures.

    When it is interrupted, running work is finished and the rest is not started.
    """
    done: dict[int, R] = {}
    failures: dict[int, OrganizationFailure] = {}
    executor = ThreadPoolExecutor(parallelism, thread_name_prefix="bootstrap")
    try:
        running = {executor.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(running):
            index = running[future]
            try:
                done[index] = future.result()
            except ReceiverError as error:
                failures[index] = failure_of(organization(items[index]), str(error))
            except SQLAlchemyError as error:
                message = str(getattr(error, "orig", None) or error).partition("\n")[0]
                failures[index] = failure_of(organization(items[index]), f"PostgreSQL (DATABASE_URL): {message}")
    finally:
        executor.shutdown(cancel_futures=True)
    return [(items[index], done[index]) for index in sorted(done)], [failures[index] for index in sorted(failures)]


def failure_of(organization: Organization, error: str) -> OrganizationFailure:
    """Make the failure of *organization* with *error*."""
    return OrganizationFailure(organization.reference_id, organization.id, error)
