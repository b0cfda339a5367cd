"""A local OpenCard with a long delivery log, in a separate process: ``python -m bench.delivery_log ENTRIES NAME...``.

Prints where it is and what it holds as one line of JSON, and serves until its standard input ends. Each line of that
is a list of attempts, as JSON, that it adds to its log.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import IO, TYPE_CHECKING, Final

import msgspec

from bench import common
from receiver.opencard.auth import Access
from receiver.sandbox.local import ORGANIZATIONS
from receiver.sandbox.provider import Behaviour, Provider, environment, serving
from receiver.sandbox.tally import DeliveryAttempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PER_PAGE: Final = 100
OK: Final = 200


@dataclass(frozen=True, slots=True)
class BenchmarkLog:
    """The local OpenCard that holds the log."""

    variables: dict[str, str] = field(repr=False)
    """The receiver's settings for it."""
    webhooks: list[tuple[int, int]]
    """OpenCard's ids of each organization and its webhook."""
    last_page: int
    """Of the first webhook's log."""
    _added: IO[bytes]

    @property
    def access(self) -> Access:
        """How a client signs in there."""
        return Access(
            self.variables["OPENCARD_API_URL"],
            self.variables["OPENCARD_ACCOUNT_ID"],
            self.variables["OPENCARD_CLIENT_ID"],
            self.variables["OPENCARD_CLIENT_SECRET"],
        )

    def add(self, attempts: list[DeliveryAttempt]) -> None:
        """Add *attempts* to the logs of their organizations."""
        self._added.write(msgspec.json.encode(attempts) + b"\n")
        self._added.flush()


@contextmanager
def serving_log(entries: int = 0, organizations: Sequence[str] = ORGANIZATIONS[:1]) -> Iterator[BenchmarkLog]:
    """Run it: a webhook for each organization, and so many entries in the log of the first."""
    command = [sys.executable, "-m", "bench.delivery_log", str(entries), *organizations]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = json.loads(process.stdout.readline())
        try:
            yield BenchmarkLog(shown["variables"], shown["webhooks"], shown["last_page"], process.stdin)
        finally:
            process.communicate()  # ends its standard input, and so the process


def main(entries: int, organizations: Sequence[str]) -> None:
    """Serve a log of so many attempts, each of another event, all accepted a moment ago, and of those that follow."""
    provider = Provider(Behaviour(per_page=PER_PAGE))
    client = provider.clients.add("bench")
    webhooks = {}
    for reference in organizations:
        organization = provider.state.add_organization(reference)
        webhooks[reference] = provider.state.add_webhook(organization.id, "https://hooks.invalid", active=True)
    provider.state.log_attempts(webhooks[organizations[0]].id, attempts(entries))
    with serving(provider) as url:
        shown = {
            "variables": environment(url, client),
            "webhooks": [(webhook.organization_id, webhook.id) for webhook in webhooks.values()],
            "last_page": -(-entries // PER_PAGE),
        }
        sys.stdout.write(json.dumps(shown) + "\n")
        sys.stdout.flush()
        decoder = msgspec.json.Decoder(list[DeliveryAttempt])
        for line in sys.stdin.buffer:
            for attempt in decoder.decode(line):
                provider.state.log_attempts(webhooks[attempt.organization_reference_id].id, [attempt])


def attempts(number: int) -> Iterator[DeliveryAttempt]:
    """Yield the attempts that brought ``common.snapshots``, a millisecond apart."""
    first = datetime.now(UTC) - timedelta(milliseconds=number)
    for place, snapshot in zip(count(), common.snapshots(number)):
        at = first + timedelta(milliseconds=place)
        yield DeliveryAttempt(snapshot.organization, common.EVENT, OK, at, snapshot.body)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
