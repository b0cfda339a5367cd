"""Sends a schedule to the registered webhooks over real HTTP, until each sending is accepted or given up.

The steps of one sending: wait until it is due → wait for the card holder's previous event → attempt, and again with
growing pauses until the answer is 200 → completed. One whose fate is to be lost, or to meet an outage, is tried a few
times without reaching the receiver, and the card holder's next event does not wait for it to be accepted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from receiver.sandbox.bearers import BearerTokens
from receiver.sandbox.challenge import HEADERS, Challenge
from receiver.sandbox.registration import Registration
from receiver.sandbox.retry_limits import DEFAULT_LIMITS, FEW_ATTEMPTS, RetryLimits
from receiver.sandbox.tally import AttemptCounts, AttemptResult, DeliveryAttempt, DeliveryTally, End, MonotonicClock
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from receiver.sandbox.faults import Sending

__all__ = [
    "AttemptCounts",
    "DeliveryAttempt",
    "DeliveryTally",
    "Registration",
    "RetryLimits",
    "challenge",
    "deliver_all",
    "due_after",
]


async def deliver_all(
    sendings: Sequence[Sending],
    registrations: Iterable[Registration],
    *,
    connections: int = 8,
    compression: float | None = None,
    give_up_after: RetryLimits = DEFAULT_LIMITS,
    timeout: float = 10,  # noqa: ASYNC109 - of one request, enforced by httpx
    record: Callable[[DeliveryAttempt], None] = lambda _: None,
    on_taken: Callable[[Sending], None] = lambda _: None,
    on_completed: Callable[[Sending], None] = lambda _: None,
    current: Callable[[Registration], Registration | None] = lambda registration: registration,
    bearers: BearerTokens | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    tally: DeliveryTally | None = None,
) -> DeliveryTally:
    """Deliver *sendings* to the webhook of each one's organization and return the tally.

    *connections* requests are under way at once at most. *compression* is virtual seconds for each real one; ``None``
    sends as fast as possible. An attempt without an answer within *timeout* seconds counts as unanswered. *record* is
    called after each attempt; *on_taken* each time the receiver answered 200, be the answer lost or not; *on_completed*
    once for each sending that is accepted or given up. *current* is called before each attempt and returns the current
    registration; after ``None`` the sending is given up. *bearers* keeps the tokens of ``oauth`` from one run
    to the next. Pass a *tally* to read the accounts of a run that was cancelled; cancelling stops all that is under way
    before it is raised here.

    Raises ``ValueError``, before anything is sent, when an organization has no registration or two, or when
    *connections* or *compression* is not positive. A failed delivery raises nothing: see ``DeliveryTally.given_up``.
    """
    webhooks = _by_organization(registrations, sendings)
    if connections < 1:
        raise ValueError(f"connections: one or more, not {connections}")
    if compression is not None and compression <= 0:
        raise ValueError(f"compression: more than zero, or None, not {compression}")

    async with httpx.AsyncClient(
        transport=transport,
        verify=tls_context(),
        timeout=timeout,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        trust_env=False,  # no proxy between neighbours, and no credentials from ~/.netrc
    ) as client:
        run = _DeliveryRun(
            client=client,
            webhooks=webhooks,
            slots=asyncio.Semaphore(connections),
            give_up_after=give_up_after,
            record=record,
            on_taken=on_taken,
            on_completed=on_completed,
            current=current,
            bearers=BearerTokens() if bearers is None else bearers,
            tally=DeliveryTally() if tally is None else tally,
        )
        await run.play(sendings, compression)
        return run.tally


def due_after(sending: Sending, first: Sending, compression: float | None) -> float:
    """Return how many real seconds after the *first* sending this one is due; *compression* as in ``deliver_all``."""
    return 0.0 if compression is None else (sending.at - first.at) / timedelta(seconds=compression)


async def challenge(client: httpx.AsyncClient, registration: Registration) -> bool:
    """Ask the webhook to prove that it knows the secret (contract, section 4).

    Returns whether it answered 200 with the right ``X-Verify-Token``; no answer at all is a no.
    """
    challenge = Challenge.of(registration.url)
    try:
        answer = await client.get(challenge.url, headers=HEADERS)
    except httpx.TransportError:
        return False
    return challenge.passed_by(answer, registration.secret)


class _NotAccepted(Exception):
    """The attempt did not end with a 200 that OpenCard saw; its text is the outcome, and no more reaches a log."""


class _WebhookUnavailable(Exception):
    """There is no such webhook any more, or it takes nothing now."""


@dataclass(frozen=True, slots=True)
class _DeliveryRun:
    client: httpx.AsyncClient
    webhooks: Mapping[str, Registration]
    slots: asyncio.Semaphore
    give_up_after: RetryLimits
    record: Callable[[DeliveryAttempt], None]
    on_taken: Callable[[Sending], None]
    on_completed: Callable[[Sending], None]
    current: Callable[[Registration], Registration | None]
    bearers: BearerTokens
    tally: DeliveryTally
    newest: dict[tuple[str, str], asyncio.Task[bool]] = field(default_factory=dict)
    """The newest sending of each card holder: the next one waits for it."""
    moments: MonotonicClock = field(default_factory=MonotonicClock)

    async def play(self, sendings: Sequence[Sending], compression: float | None) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for sending in sendings:
                early = begun + due_after(sending, sendings[0], compression) - loop.time()
                if early > 0:
                    await asyncio.sleep(early)
                holder = sending.sent.card_holder
                previous = self.newest.get(holder) if holder else None
                task = tasks.create_task(self._settle(sending, previous))
                if holder:
                    self.newest[holder] = task

    async def _settle(self, sending: Sending, previous: asyncio.Task[bool] | None) -> bool:
        """Return whether the next event of its card holder may be sent."""
        held_back = previous is not None and not await previous
        end = "given_up" if held_back else await self._send_until_accepted(sending)
        self.tally.count_end(end)
        self.on_completed(sending)
        return end != "given_up"

    async def _send_until_accepted(self, sending: Sending) -> End:
        limits = FEW_ATTEMPTS if sending.loss else self.give_up_after
        lose_answer = sending.lose_answer
        try:
            async for attempt in limits.attempts_while(_NotAccepted):
                with attempt:
                    outcome = await self._attempt(sending, lose_answer=lose_answer)
                    lose_answer = lose_answer and outcome != "lost_answers"
                    _require_acceptance(outcome)
        except _NotAccepted:
            return sending.loss or "given_up"
        except _WebhookUnavailable:
            return "given_up"
        return "accepted"

    async def _attempt(self, sending: Sending, *, lose_answer: bool) -> AttemptResult:
        sent = sending.sent
        async with self.slots:
            webhook = self.current(self.webhooks[sent.organization_reference_id])
            if webhook is None:
                raise _WebhookUnavailable
            at = self.moments.next()
            status = await self._answer_to(sending, webhook)
        outcome = _outcome(status, lose_answer=lose_answer)
        seen = None if outcome == "lost_answers" else status
        self.tally.count_event(sent.event, outcome)
        self.record(DeliveryAttempt(sent.organization_reference_id, sent.event, seen, at, sent.payload))
        if status == HTTPStatus.OK:
            self.on_taken(sending)
        return outcome

    async def _answer_to(self, sending: Sending, webhook: Registration) -> int | None:
        match sending.loss:
            case "lost":
                return None
            case "outage":
                return HTTPStatus.SERVICE_UNAVAILABLE
            case None:
                return await self._post(webhook, sending.sent.event, sending.sent.payload)

    async def _post(self, webhook: Registration, event: str, body: bytes) -> int | None:
        bearer = None
        if webhook.authentication_type == "oauth":
            bearer = await self.bearers.get(self.client, webhook)
            if bearer is None:
                return None
        try:
            headers = webhook.headers(event, body, bearer=bearer)
            response = await self.client.post(webhook.url, content=body, headers=headers)
        except httpx.TransportError:
            return None
        if bearer is not None:
            self.bearers.judge(webhook, bearer, response.status_code)
        return response.status_code


def _outcome(status: int | None, *, lose_answer: bool) -> AttemptResult:
    if status is None:
        return "unanswered"
    if status != HTTPStatus.OK:
        return "refused"
    return "lost_answers" if lose_answer else "accepted"


def _require_acceptance(outcome: AttemptResult) -> None:
    if outcome != "accepted":
        raise _NotAccepted(outcome)


def _by_organization(registrations: Iterable[Registration], sendings: Iterable[Sending]) -> dict[str, Registration]:
    webhooks: dict[str, Registration] = {}
    for registration in registrations:
        if registration.organization_reference_id in webhooks:
            raise ValueError(f"organization {registration.organization_reference_id!r} has two registrations")
        webhooks[registration.organization_reference_id] = registration
    missing = {sending.sent.organization_reference_id for sending in sendings} - webhooks.keys()
    if missing:
        raise ValueError(f"no registration for {', '.join(sorted(missing))}")
    return webhooks
