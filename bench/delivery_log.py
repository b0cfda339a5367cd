"""A local OpenCard with a long delivery log, in a process of its own: ``python -m bench.delivery_log ENTRIES``.

Prints where it is and what it holds as one line of JSON, and serves until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from bench import ground
from receiver.sandbox.local import ORGANIZATIONS
from receiver.sandbox.provider import Behaviour, Provider, environment, serving
from receiver.sandbox.tally import DeliveryAttempt

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_PAGE: Final = 100
OK: Final = 200


def main(entries: int) -> None:
    """Serve a log of so many attempts, each of another event, all accepted a moment ago."""
    provider = Provider(Behaviour(per_page=PER_PAGE))
    client = provider.clients.add("bench")
    organization = provider.state.add_organization(ORGANIZATIONS[0])
    webhook = provider.state.add_webhook(organization.id, "https://hooks.invalid", active=True)
    provider.state.log_attempts(webhook.id, attempts(entries))
    with serving(provider) as url:
        shown = {
            "environment": environment(url, client),
            "organization_id": organization.id,
            "webhook_id": webhook.id,
            "last_page": -(-entries // PER_PAGE),
        }
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def attempts(number: int) -> Iterator[DeliveryAttempt]:
    """Yield the attempts that brought ``ground.snapshots``, a millisecond apart."""
    first = datetime.now(UTC) - timedelta(milliseconds=number)
    for place, snapshot in zip(count(), ground.snapshots(number)):
        at = first + timedelta(milliseconds=place)
        yield DeliveryAttempt(ORGANIZATIONS[0], ground.EVENT, OK, at, snapshot.body)


if __name__ == "__main__":
    main(int(sys.argv[1]))
