"""Asks OpenCard for a test delivery, waits for it, and tells how it was understood.

The road: hold what may be the test → ask OpenCard, once → wait until something arrives → resolve what it is → report.
The processing of all other deliveries goes on meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from receiver.bootstrap.endpoint import challenge_endpoint
from receiver.deliveries.webhooks import endpoint_url
from receiver.errors import OpenCardError, OperationRefused, OutcomeUnknown, UnreadableAnswer
from receiver.events.awaited_tests import (
    Awaited,
    await_test,
    candidate_ids,
    note_answer,
    read_awaited,
    resolve,
    withdraw,
    would_decide,
)
from receiver.events.recognize import told_fingerprint
from receiver.events.registry import load_handlers
from receiver.opencard.client import OpenCard
from receiver.opencard.failures import HINTS
from receiver.opencard.scopes import scopes_for
from receiver.opencard.tokens import StoredTokens
from receiver.opencard.webhooks import Webhooks
from receiver.ops.sent_test import Report, reported

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from sqlalchemy import Engine

    from receiver.bootstrap.stored import StoredWebhook
    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access

LONGEST_SETTLE: Final = 3.0
SHARE_OF_SETTLE: Final = 10
LONGEST_REQUEST: Final = timedelta(minutes=4)
"""How long OpenCard may take to answer the request, tries that never reached it included."""
HARMLESS: Final = "environmental.impact.deedster"
"""An event whose test does least harm if it is taken for a real one: it adds a row about no known transaction."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a test is waited for, in seconds."""

    timeout: float
    settle: float
    """After a first delivery arrived: how long a second one may take to show itself, which then is the test perhaps."""
    poll: float = 0.1

    @classmethod
    def of(cls, timeout: float) -> Patience:
        """Return the patience that goes with *timeout*."""
        return cls(timeout, settle=min(LONGEST_SETTLE, timeout / SHARE_OF_SETTLE))


@dataclass(frozen=True, slots=True)
class SendTest:
    """Tests managed webhooks, with a token that can do nothing but that and other writing of webhooks."""

    engine: Engine
    encryption: Encryption
    access: Access
    public_url: str
    wake_worker: Callable[[], object] = lambda: None
    """Called when held deliveries are released."""
    transport: httpx.BaseTransport | None = None

    def run(self, webhook: StoredWebhook, event: str, patience: Patience) -> Report:
        """Ask for a test delivery of *event*, a name in the catalogue, wait for it, and return what came of it.

        Raises ``OperationRefused`` when the webhook is not registered or a test of the event is awaited already, and
        an ``OpenCardError`` when OpenCard does not send one. A request whose outcome is unknown is not repeated: the
        test may come all the same, and is waited for.
        """
        if webhook.opencard_webhook_id is None:
            raise OperationRefused(
                f"webhook {webhook.id} is not known to be registered at OpenCard: receiver bootstrap registers it"
            )
        wait = timedelta(seconds=patience.timeout)
        tokens = StoredTokens(self.engine, self.encryption)
        with OpenCard(self.access, scopes_for("webhooks test"), tokens, transport=self.transport) as api:
            api.authenticate()  # nothing is held for a token that is not to be had
            awaited_id = await_test(self.engine, webhook.id, event, at_most=LONGEST_REQUEST + wait)
            doubt = None
            try:
                answer = Webhooks(api).send_test(webhook.organization_id, webhook.opencard_webhook_id, event)
            except (OutcomeUnknown, UnreadableAnswer) as error:
                doubt = f"{str(error).removesuffix(HINTS[type(error)])}not repeated, for it may have been carried out"
                note_answer(self.engine, awaited_id, sent=False, told=None, wait=wait)
            except OpenCardError:
                withdraw(self.engine, awaited_id)
                self.wake_worker()
                raise
            else:
                told = told_fingerprint(event, answer, load_handlers(), webhook.organization_reference_id)
                note_answer(self.engine, awaited_id, sent=True, told=told, wait=wait)
        self._wait(awaited_id, patience)
        awaited = self._resolved(awaited_id, patience)
        self.wake_worker()
        if awaited.delivery_id is not None:
            with self.engine.connect() as connection:
                return reported(connection, webhook, event, awaited.delivery_id)
        why = _unclear(awaited) if awaited.unclear else self._silence(webhook, event, patience)
        return Report(webhook, event, error=why if doubt is None else f"{doubt}\n{why}")

    def _wait(self, awaited_id: int, patience: Patience) -> None:
        """Return when it is time to resolve: something arrived and has settled, or nothing will be waited for."""
        deadline = time.monotonic() + patience.timeout
        settled: float | None = None
        seen: list[int] = []
        while time.monotonic() < deadline:
            with self.engine.connect() as connection:
                awaited = read_awaited(connection, awaited_id)
                if awaited.resolved:
                    return
                candidates = candidate_ids(connection, awaited_id)
                if candidates and settled is None:
                    settled = time.monotonic() + patience.settle
                if settled is not None and time.monotonic() >= settled and candidates != seen:
                    if awaited.told is None or would_decide(connection, awaited_id).test is not None:
                        return
                    seen = candidates  # none of them is what OpenCard said it sends: that is still to come
            time.sleep(patience.poll)

    def _resolved(self, awaited_id: int, patience: Patience) -> Awaited:
        """Resolve the test, or wait for whoever is at it, and return what it turned out to be."""
        while True:
            resolve(self.engine, awaited_id)
            with self.engine.connect() as connection:
                awaited = read_awaited(connection, awaited_id)
            if awaited.resolved:
                return awaited
            time.sleep(patience.poll)

    def _silence(self, webhook: StoredWebhook, event: str, patience: Patience) -> str:
        """Return what to look at when nothing arrived."""
        url = endpoint_url(self.public_url, webhook.endpoint_key)
        wrong = challenge_endpoint(url, webhook.secret)
        end = (
            f"Our own end fails through PUBLIC_URL: {wrong}"
            if wrong is not None
            else f"Our own end answers its challenge through PUBLIC_URL ({self.public_url}), so look at OpenCard's: is "
            "the webhook active and enabled there (receiver bootstrap --check), and can OpenCard reach that address?"
        )
        if webhook.active is False:
            end += " When OpenCard was last asked, the webhook was not active: receiver bootstrap mends that."
        return (
            f"no test delivery arrived within {patience.timeout:g} s. {end} A delivery that was refused leaves nothing "
            "stored: the log of the web process then names the reason (delivery refused). A test that arrives from now "
            f"on is processed as a real event"
            + (f"; test with {HARMLESS}, which does no harm." if event != HARMLESS else ".")
        )


def _unclear(awaited: Awaited) -> str:
    ids = ", ".join(map(str, awaited.unclear))
    which = (
        f"delivery {ids} arrived, but nothing proves that it"
        if len(awaited.unclear) == 1
        else (f"deliveries {ids} arrived, and nothing tells which of them")
    )
    return f"{which} is the test. Quarantined, so that nothing is lost and no test is booked: a person has to decide"
