"""Workers that recently died or hung while they processed deliveries, for example for lack of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from receiver.ops.retention.record import Query

# what has a time in the future was written before the server's clock was set back
_DEATHS: Final = """
SELECT count(*) AS number, CAST(coalesce(sum(deliveries), 0) AS bigint) AS deliveries, max(at) AS last
FROM receiver.worker_deaths WHERE at BETWEEN now() - interval '15 minutes' AND now()
"""


@dataclass(frozen=True, slots=True)
class WorkerDeaths:
    """The deaths of workers within the last quarter of an hour."""

    number: int = 0
    deliveries: int = 0
    """How many they had claimed."""
    last: datetime | None = None
    """When the claim of the last ended, 20 seconds after it began."""


def read_worker_deaths(query: Query) -> WorkerDeaths:
    """Read how many workers died or hung lately."""
    return next(WorkerDeaths(**row) for row in query(_DEATHS))


def find_worker_deaths(deaths: WorkerDeaths) -> Iterable[Finding]:
    """Yield what needs attention: nothing is lost, but what happens again keeps deliveries waiting."""
    if deaths.last is not None:
        times = "once" if deaths.number == 1 else f"{deaths.number} times"
        held = "1 delivery" if deaths.deliveries == 1 else f"{deaths.deliveries} deliveries"
        text = (
            f"worker: a process died or hung {times} while it processed {held}, last at {deaths.last:%Y-%m-%d %H:%M:%S}"
            " UTC; they are processed one by one: is its machine short of memory?"
        )
        yield Finding(FindingKind.WORKER_DIED, text, count=deaths.number)
