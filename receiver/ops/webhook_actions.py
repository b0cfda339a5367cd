"""What an operator does to one webhook from the console: rotate its secret, test it, register it again.

The commands call the same functions. Each returns in a sentence what was done, and raises ``OperationRefused`` or an
``OpenCardError`` where it was not.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from receiver.bootstrap.rotation import Rotation
from receiver.bootstrap.run import Bootstrap, BootstrapOptions
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.events.catalogue import EVENT_FLAGS
from receiver.opencard.auth import Access
from receiver.ops.send_test import SendTest, SendTestTimeouts
from receiver.webhooks.store import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.bootstrap.concurrency import OrganizationFailure
    from receiver.settings import Settings

EVENTS: Final = tuple(EVENT_FLAGS)
"""Events of which OpenCard can be asked for a test delivery."""
OVERLAP: Final = timedelta(hours=24)
"""How long the previous secret stays valid; the command's default."""
OPENCARD_SECONDS: Final = 8.0
"""Seconds for all requests of a page to OpenCard together, repeated ones too: a person waits for the page."""
TEST_SECONDS: Final = 15.0
"""Seconds to wait for a test delivery: all together shorter than the request time-out of hosting platforms, 30 s."""


def rotate_secret(settings: Settings, webhook_id: int) -> str:
    """Give a webhook a new secret, as ``receiver webhooks rotate-secret`` does."""
    with _engine(settings) as engine:
        rotation = Rotation(
            engine,
            Encryption(settings.encryption_keys),
            _access(settings),
            settings.public_url,
        )
        result = rotation.run([webhook_id], overlap=OVERLAP)
    _check(result.failures)
    (rotated,) = result.rotated
    until = rotated.previous_secret_expires_at
    return f"OpenCard has the new secret. The previous one is valid until {until:%Y-%m-%d %H:%M} UTC."


def send_test(settings: Settings, webhook_id: int, event: str) -> str:
    """Have OpenCard send a test delivery, as ``receiver webhooks test`` does, and wait for it."""
    with _engine(settings) as engine:
        encryption = Encryption(settings.encryption_keys)
        sending = SendTest(engine, encryption, _access(settings, more=TEST_SECONDS), settings.public_url)
        webhook = WebhookStore(engine, encryption).get(webhook_id)
        report = sending.run(webhook, event, SendTestTimeouts(TEST_SECONDS))
    if report.delivery is None:
        raise OperationRefused(report.error or "no test delivery arrived")
    arrived = f"The test arrived as delivery {report.delivery.id}, verified by {report.delivery.verification}"
    if report.parsed is None:
        raise OperationRefused(f"{arrived}, but was not parsed: {report.error}")
    return f"{arrived}."


def register(settings: Settings, webhook_id: int) -> str:
    """Register the webhook of an organization again, as ``receiver bootstrap --organization`` does.

    With the configuration that was applied last. An inactive webhook gets a new URL, and so a challenge.
    """
    with _engine(settings) as engine:
        encryption = Encryption(settings.encryption_keys)
        organization = WebhookStore(engine, encryption).get(webhook_id).organization_reference_id
        bootstrap = Bootstrap(engine, encryption, _access(settings), settings.public_url)
        result = bootstrap.run(None, BootstrapOptions(only=(organization,)))
    _check([each for each in result.failures if each.organization_reference_id == organization])
    if not result.changes:
        return "Nothing differs from the configuration: OpenCard was not asked for anything."
    made = ", ".join(dict.fromkeys(change.action.value for _, change in result.changes))
    return f"Registered again at OpenCard: {made}."


def _access(settings: Settings, more: float = 0.0) -> Access:
    """Return the access with a page's limit; *more*: seconds that the page waits for something else meanwhile."""
    return Access.of(settings, seconds=OPENCARD_SECONDS, until=time.monotonic() + OPENCARD_SECONDS + more)


def _check(failures: list[OrganizationFailure]) -> None:
    if failures:
        raise OperationRefused(failures[0].error)


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    engine = engine_for(settings.database_url, application="command")
    try:
        yield engine
    finally:
        engine.dispose()
