"""Reconcile webhooks: read the delivery log of each, compare it with the stored deliveries, recover what is missing.

The steps for one webhook (``session``): lock → read the log → load the stored deliveries → compare → write. Reading
changes nothing; the result and ``checked_until`` are written in one transaction. So a run may be interrupted at any
moment, and the next one does it all again.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sqlalchemy import select

from receiver.errors import OperationRefused
from receiver.opencard.client import OpenCard
from receiver.opencard.routes import LIST_DELIVERY_LOG
from receiver.opencard.scopes import scopes_of
from receiver.opencard.tokens import BorrowedTokens, StoredTokens
from receiver.progress import Progress
from receiver.reconcile.outcome import ReconcileOutcome
from receiver.reconcile.session import ReconciledWebhook, ReconcileSession, RunOptions
from receiver.webhooks.models import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    import httpx
    from sqlalchemy import Engine

    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access

__all__ = ["ReconcileOutcome", "Reconciler"]


class Reconciler:
    """Compares the delivery logs of the managed webhooks with the stored deliveries."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        access: Access,
        *,
        grace: timedelta,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """*grace*: how long a stored delivery may be missing in the log. *transport*: in place of the network."""
        self._engine = engine
        self._encryption = encryption
        self._tokens = StoredTokens(engine, encryption)
        self._access = access
        self._grace = grace
        self._transport = transport

    def run(
        self,
        webhook_ids: Sequence[int] | None = None,
        *,
        since: datetime | None = None,
        write: bool = True,
        parallelism: int = 4,
        progress: Progress = Progress(),  # noqa: B008
    ) -> list[ReconcileOutcome]:
        """Reconcile all registered and managed webhooks that are enabled, or these; one's failure stops no other.

        *since* (aware) is how far back the log is read; without it, from the last run's start with some overlap, or
        from the beginning if there was none. With ``write=False`` nothing is written anywhere. A webhook that another
        run holds has an ``error`` that says so. Recovered deliveries are pending: the caller wakes a worker.

        Raises ``OperationRefused`` for an id that is not a registered and managed webhook.
        """
        webhooks = self._webhooks(webhook_ids)
        progress.total(len(webhooks))
        progress.stage("reading the delivery log")
        tokens = self._tokens if write else BorrowedTokens(self._tokens)
        options = RunOptions(self._encryption, grace=self._grace, since=since, write=write)
        waiting = deque(enumerate(webhooks))
        done: dict[int, ReconcileOutcome] = {}

        def work(api: OpenCard) -> None:
            with ReconcileSession(self._engine, api, options) as session:
                while waiting:
                    try:
                        place, webhook = waiting.popleft()
                    except IndexError:  # another thread took the last one
                        return
                    done[place] = session.reconcile(webhook)
                    progress.advance()

        workers = max(1, min(parallelism, len(webhooks)))
        scopes = scopes_of([LIST_DELIVERY_LOG])
        with (
            OpenCard(self._access, scopes, tokens, transport=self._transport) as api,
            ThreadPoolExecutor(workers, thread_name_prefix="reconcile") as executor,
        ):
            try:
                for future in [executor.submit(work, api) for _ in range(workers)]:
                    future.result()
            finally:
                waiting.clear()  # when interrupted: finish what has started, and start nothing else
        return [done[place] for place in sorted(done)]

    def _webhooks(self, webhook_ids: Sequence[int] | None) -> list[ReconciledWebhook]:
        """Return the webhooks to reconcile, ordered by id."""
        columns = (Webhook.id, Webhook.opencard_webhook_id, Webhook.organization_id, Webhook.organization_reference_id)
        # what a disabled one refused is not recovered, unless the caller names its id
        chosen = Webhook.enabled if webhook_ids is None else Webhook.id.in_(webhook_ids)
        query = select(*columns).where(
            Webhook.opencard_webhook_id.is_not(None), Webhook.deleted_at.is_(None), ~Webhook.test, chosen
        )
        with self._engine.connect() as connection:
            found = [ReconciledWebhook(**row) for row in connection.execute(query.order_by(Webhook.id)).mappings()]
        unknown = sorted(set(webhook_ids or ()) - {webhook.id for webhook in found})
        if unknown:
            raise OperationRefused(
                f"webhook {', '.join(map(str, unknown))}: unknown here, not registered at OpenCard yet, deleted "
                "there, or a test webhook; receiver webhooks list shows those that are"
            )
        return found
