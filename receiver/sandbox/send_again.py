"""An event that OpenCard sends, and sends again long afterwards: the first time is recovered from its delivery log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import stamina

from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.opencard.auth import Access
from receiver.reconcile.run import Reconciler
from receiver.reconcile.session import BUSY
from receiver.sandbox.control_client import SendOptions, trigger_bodies, trigger_events
from receiver.webhooks.listing import list_webhooks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine

    from receiver.settings import Settings

BUSY_SECONDS: Final = 30
"""How long to wait for another run of reconciliation, which takes a fraction of a second here."""


class _BusyError(Exception):
    pass


def trigger_again(
    engine: Engine,
    settings: Settings,
    organization: str,
    events: Sequence[str],
    *,
    after: timedelta,
    count: int = 1,
    changes: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> list[dict[str, Any]]:
    """Have *events* sent as if *after* had passed since they were sent first; return both times, the first ones first.

    The first time is only in OpenCard's log, which is read here, so that the deliveries have that time. Raises
    ``ValueError`` for an event or a field that does not exist, and ``OperationRefused``.
    """
    api_url = settings.opencard_api_url
    options = SendOptions(count=count, late=after, lose=True)
    first = trigger_bodies(api_url, organization, events, options, changes=changes, body=body)
    _read_log(engine, settings, organization)
    done = [sent for sent, _ in first]
    for sent, content in first:
        done += trigger_events(api_url, organization, [sent["event"]], body=content)
    return done


def _read_log(engine: Engine, settings: Settings, organization: str) -> None:
    with engine.connect() as connection:
        webhooks = [
            webhook["id"]
            for webhook in list_webhooks(connection, organization=organization)
            if webhook["opencard_webhook_id"] is not None and webhook["deleted_at"] is None and not webhook["test"]
        ]
    grace = timedelta(seconds=settings.reconcile_grace)
    reconciler = Reconciler(engine, Encryption(settings.encryption_keys), Access.of(settings), grace=grace)
    for attempt in stamina.retry_context(on=_BusyError, timeout=BUSY_SECONDS, attempts=None, wait_max=1):
        with attempt:
            for outcome in reconciler.run(webhooks):
                if outcome.error == BUSY:
                    raise _BusyError(BUSY)
                if outcome.error is not None:
                    raise OperationRefused(outcome.error)
