"""Reconciling webhooks: each one's log read, compared with what is stored, what is missing brought in.

The road of one webhook (``session``): lock → read the log → lay the stored deliveries beside it → compare → write.
Reading changes nothing; all that follows from it is written in one transaction, the watermark with it. So a run may be
cut off at any moment, and the next one does it all again.
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
from receiver.reconcile.outcome import Outcome
from receiver.reconcile.session import Options, ReconciledWebhook, Session
from receiver.webhooks.models import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    import httpx
    from sqlalchemy import Engine

    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access

__all__ = ["Outcome", "Reconciler"]


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
        side_by_side: int = 4,
        progress: Progress = Progress(),  # noqa: B008
    ) -> list[Outcome]:
        """Reconcile all registered and managed webhooks that are enabled, or these; one's failure stops no other.

        *since* (aware) is how far back the log is read; without it, from the last run's start with some overlap, or
        whole if there was none. With ``write=False`` nothing is written anywhere. A webhook that another run is busy
        with has an ``error`` that says so. What is recovered waits for a worker: waking one is the caller's business.

        Raises ``OperationRefused`` for an id that is no registered and managed webhook.
        """
        webhooks = self._webhooks(webhook_ids)
        progress.total(len(webhooks))
        progress.stage("reading the delivery log")
        tokens = self._tokens if write else BorrowedTokens(self._tokens)
        options = Options(self._encryption, grace=self._grace, since=since, write=write)
        waiting = deque(enumerate(webhooks))
        done: dict[int, Outcome] = {}

        def lane(api: OpenCard) -> None:
            with Session(self._engine, api, options) as session:
                while waiting:
                    try:
                        place, webhook = waiting.popleft()
                    except IndexError:  # another lane took the last one
                        return
                    done[place] = session.reconcile(webhook)
                    progress.advance()

        lanes = max(1, min(side_by_side, len(webhooks)))
        scopes = scopes_of([LIST_DELIVERY_LOG])
        with (
            OpenCard(self._access, scopes, tokens, transport=self._transport) as api,
            ThreadPoolExecutor(lanes, thread_name_prefix="reconcile") as executor,
        ):
            try:
                for future in [executor.submit(lane, api) for _ in range(lanes)]:
                    future.result()
            finally:
                waiting.clear()  # when interrupted: what is under way is finished, and the rest is not begun
        return [done[place] for place in sorted(done)]

    def _webhooks(self, webhook_ids: Sequence[int] | None) -> list[ReconciledWebhook]:
        """Return the webhooks to reconcile, in order."""
        columns = (Webhook.id, Webhook.opencard_webhook_id, Webhook.organization_id, Webhook.organization_reference_id)
        # what a disabled one has refused is not wanted, unless somebody asks for it by its id
        chosen = Webhook.enabled if webhook_ids is None else Webhook.id.in_(webhook_ids)
        asked = select(*columns).where(
            Webhook.opencard_webhook_id.is_not(None), Webhook.deleted_at.is_(None), ~Webhook.test, chosen
        )
        with self._engine.connect() as connection:
            found = [ReconciledWebhook(**row) for row in connection.execute(asked.order_by(Webhook.id)).mappings()]
        unknown = sorted(set(webhook_ids or ()) - {webhook.id for webhook in found})
        if unknown:
            raise OperationRefused(
                f"webhook {', '.join(map(str, unknown))}: unknown here, not registered at OpenCard yet, deleted "
                "there, or a test webhook; receiver webhooks list shows those that are"
            )
        return found
