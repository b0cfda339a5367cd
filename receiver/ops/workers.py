"""Which workers there are, by what RQ knows of them in Redis."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from redis import RedisError
from rq import Worker

from receiver.queue import QUEUE, SHORT_TIMEOUT, check_writes, connect

if TYPE_CHECKING:
    from collections.abc import Mapping

LOST: Final = timedelta(minutes=2)
"""Time without a report after which a worker has ended or hangs; it reports at least every half minute."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers that are alive, on all machines."""

    reachable: bool
    """Whether Redis, which knows them, can be reached and takes writes."""
    by_queue: Mapping[str, int] = field(default_factory=dict)
    """Queue → how many serve it."""
    ahead: int = 0
    """How many last reported in the future, alive or not: their clock is ahead, or this machine's was set back."""


def seen_workers(redis_url: str) -> Workers:
    """Return the workers that have reported lately."""
    with closing(connect(redis_url, timeout=SHORT_TIMEOUT)) as redis:
        try:
            check_writes(redis)
            workers = Worker.all(connection=redis)
        except RedisError:
            return Workers(reachable=False)
    now = datetime.now(UTC)
    ages = [(worker, now - _aware(worker.last_heartbeat)) for worker in workers if worker.last_heartbeat]
    served = (name for worker, age in ages if abs(age) < LOST for name in worker.queue_names())
    return Workers(reachable=True, by_queue=dict(Counter(served)), ahead=sum(age <= -LOST for _, age in ages))


def describe_workers(workers: Workers | None) -> str:
    """Return how many workers serve which queue; *workers*: ``None`` where Redis is not configured."""
    if workers is None:
        return "not known: REDIS_URL is not set"
    if not workers.reachable:
        return "not known: Redis cannot be reached or refuses writes"
    others = {queue: number for queue, number in workers.by_queue.items() if queue != QUEUE}
    others_text = "".join(
        f", {number} for {queue.removeprefix(f'{QUEUE}-')}" for queue, number in sorted(others.items())
    )
    ahead = f"; {workers.ahead} reported in the future: check the clocks" if workers.ahead else ""
    return f"{workers.by_queue.get(QUEUE, 0)} for deliveries{others_text}{ahead}"


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
