from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from receiver.sandbox.faults import Faults, Sending, schedule
from receiver.sandbox.sender import (
    AttemptCounts,
    DeliveryAttempt,
    DeliveryTally,
    Registration,
    RetryLimits,
    challenge,
    deliver_all,
    due_after,
)
from receiver.sandbox.signing import sign
from receiver.sandbox.story import StoryEvent, make_story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_ONCE = RetryLimits(attempts=5, seconds=None, first_pause=0, longest_pause=0)
SECRET = "s3cret-å"
LATER = timedelta(seconds=1)


@dataclass
class Received:
    event: str
    headers: dict[str, str]
    body: bytes


@dataclass
class AnswerServer:
    """A receiver on a free loopback port that answers as configured and remembers what it was sent."""

    answer: Callable[[int], int]
    url: str = ""
    received: list[Received] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve(answer: Callable[[int], int] = lambda _: 200, *, secret: str = SECRET) -> Iterator[AnswerServer]:
    state = AnswerServer(answer)

    class AnswerHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with state.lock:
                state.received.append(Received(self.headers["X-Event"], dict(self.headers), body))
                status = state.answer(len(state.received))
            self.send_response(status)
            self.end_headers()

        def do_GET(self) -> None:
            question = httpx.URL(self.path).params["challenge"]
            state.questions.append(question)
            status = 200 if self.headers["X-Event"] == "challenge" else 400
            self.send_response(status)
            self.send_header("X-Verify-Token", hmac.new(secret.encode(), question.encode(), hashlib.sha256).hexdigest())
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), AnswerHandler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/hooks/opencard/key"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def webhook(
    url: str = "http://receiver.test/hooks/opencard/key",
    organization: str = "org-1",
    **more: Any,
) -> Registration:
    return Registration(url=url, secret=SECRET, organization_reference_id=organization, **more)


def snapshot(number: int, *, lose_answer: bool = False) -> Sending:
    body = b'{"id": "%d"}' % number
    return Sending(StoryEvent("org-1", "card.transaction.cleared", body, LATER), LATER, lose_answer=lose_answer)


def of_holder(event: str, holder: str = "emp-1") -> Sending:
    body = b'{"card_holder":{"reference_id":"%s"}}' % holder.encode()
    return Sending(StoryEvent("org-1", f"card_holder.{event}", body, LATER), LATER)


def send(
    sendings: list[Sending],
    *registrations: Registration,
    **more: Any,
) -> DeliveryTally:
    more.setdefault("give_up_after", AT_ONCE)
    return asyncio.run(deliver_all(sendings, registrations or [webhook()], **more))


def answering(*statuses: int | None) -> httpx.MockTransport:
    """Answer the first requests with *statuses* (``None``: no connection), the others with 200."""
    left = list(statuses)

    def handle(request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if left else 200
        if status is None:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(status)

    return httpx.MockTransport(handle)


def adds_up(counts: AttemptCounts) -> bool:
    return counts.sent == counts.accepted + counts.refused + counts.unanswered + counts.lost_answers


def test_the_signature_is_hmac_sha256_in_hexadecimal() -> None:
    # RFC 4231, test case 2
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign("Jefe", b"what do ya want for nothing?") == expected


def test_delivery_has_contract_headers_and_a_valid_signature() -> None:
    story = make_story(seed=1, organizations=["org-1"], purchases=3)
    with serve() as server:
        send(schedule(story.events, Faults(), 0), webhook(server.url))
    assert Counter(one.body for one in server.received) == Counter(sent.payload for sent in story.events)
    for one in server.received:
        assert one.headers["Content-Type"] == "application/json"
        assert one.headers["X-Version"] == "1"
        assert "Authorization" not in one.headers
        assert one.headers["X-Data-Signature"] == hmac.new(SECRET.encode(), one.body, hashlib.sha256).hexdigest()


def test_a_webhook_is_authenticated_as_registered() -> None:
    basic = webhook(authentication_type="basic", basic_username="anna", basic_password="p:å")
    assert basic.headers("e", b"{}")["Authorization"] == "Basic " + base64.b64encode("anna:p:å".encode()).decode()
    custom = webhook(authentication_type="custom", custom_key="X-Key", custom_value="v")
    assert custom.headers("e", b"{}")["X-Key"] == "v"


def test_a_webhook_that_does_not_sign_sends_no_signature() -> None:
    assert "X-Data-Signature" not in webhook(signs=False).headers("e", b"{}")


def test_a_registration_keeps_its_secrets_out_of_repr() -> None:
    shown = repr(webhook(basic_username="u-n", basic_password="p-w", custom_key="X-Key", custom_value="c-v"))
    assert not any(secret in shown for secret in (SECRET, "u-n", "p-w", "c-v"))


@pytest.mark.parametrize("kind", ["basic", "custom"])
def test_authentication_without_its_credentials_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=kind):
        webhook(authentication_type=kind)


def test_refused_delivery_is_resent_unchanged_until_accepted() -> None:
    attempts: list[DeliveryAttempt] = []
    with serve(lambda number: (503, 302, 201, 200)[number - 1]) as server:
        tally = send([snapshot(1)], webhook(server.url), record=attempts.append)
    assert len({one.body for one in server.received}) == 1
    assert len({one.headers["X-Data-Signature"] for one in server.received}) == 1
    assert [attempt.status for attempt in attempts] == [503, 302, 201, 200]
    assert all(attempt.at.tzinfo is UTC and attempt.body == snapshot(1).sent.payload for attempt in attempts)
    assert (tally.sent, tally.refused, tally.accepted, tally.given_up) == (4, 3, 1, 0)


def test_a_broken_connection_is_tried_again() -> None:
    attempts: list[DeliveryAttempt] = []
    tally = send([snapshot(1)], transport=answering(None, None), record=attempts.append)
    assert [attempt.status for attempt in attempts] == [None, None, 200]
    assert (tally.sent, tally.unanswered, tally.accepted) == (3, 2, 1)


def test_lost_answer_causes_a_second_identical_delivery() -> None:
    attempts: list[DeliveryAttempt] = []
    with serve() as server:
        tally = send([snapshot(1, lose_answer=True)], webhook(server.url), record=attempts.append)
    assert [one.body for one in server.received] == [snapshot(1).sent.payload] * 2
    assert [attempt.status for attempt in attempts] == [None, 200]
    assert (tally.sent, tally.lost_answers, tally.accepted) == (2, 1, 1)


def test_only_an_answer_that_came_can_be_lost() -> None:
    tally = send([snapshot(1, lose_answer=True)], transport=answering(503, 200))
    assert (tally.sent, tally.refused, tally.lost_answers, tally.accepted) == (3, 1, 1, 1)


def test_sending_given_up_does_not_stop_the_others() -> None:
    completed: list[Sending] = []
    sendings = [snapshot(1), snapshot(2)]

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if b"2" in request.content else 500)

    tally = send(sendings, transport=httpx.MockTransport(handle), on_completed=completed.append)
    assert (tally.sent, tally.refused, tally.accepted, tally.given_up) == (6, 5, 1, 1)
    assert sorted(completed, key=sendings.index) == sendings


def test_tally_adds_up_in_total_and_by_event() -> None:
    story = make_story(seed=2, organizations=["org-1", "org-2"], purchases=30)
    sendings = schedule(story.events, Faults(duplicates=0.2, disorder=0.3, lost_answers=0.3, bursts=0.5), 2)
    attempts: list[DeliveryAttempt] = []
    completed: list[Sending] = []
    with serve(lambda number: 503 if number % 7 == 0 else 200) as server:
        registrations = [webhook(server.url, "org-1"), webhook(server.url, "org-2")]
        limits = RetryLimits(attempts=None, seconds=None, first_pause=0)
        tally = send(
            sendings, *registrations, give_up_after=limits, record=attempts.append, on_completed=completed.append
        )
    assert tally.sent == len(server.received) == len(attempts)
    assert tally.accepted == len(sendings) == len(completed)
    assert tally.lost_answers == sum(sending.lose_answer for sending in sendings)
    assert tally.refused == len(server.received) // 7
    assert all(map(adds_up, [tally, *tally.by_event.values()]))
    assert {event: counts.sent for event, counts in tally.by_event.items()} == Counter(
        one.event for one in server.received
    )
    assert {sent.payload for sent in story.events} == {one.body for one in server.received}


def test_card_holder_event_waits_for_the_previous_one() -> None:
    story = make_story(seed=3, organizations=["org-1"], purchases=20)
    sendings = schedule(story.events, Faults(duplicates=0.5, disorder=0.5, lost_answers=0.5), 3)
    attempts: list[DeliveryAttempt] = []
    with serve(lambda number: 500 if number % 3 == 0 else 200) as server:
        limits = RetryLimits(attempts=None, seconds=None, first_pause=0)
        send(sendings, webhook(server.url), give_up_after=limits, record=attempts.append, connections=16)

    arrived: dict[bytes, list[str]] = defaultdict(list)
    for attempt in attempts:
        if attempt.event.startswith("card_holder.") and attempt.status == 200:
            arrived[attempt.body].append(attempt.event)
    expected: dict[bytes, list[str]] = defaultdict(list)
    for sending in sendings:
        if sending.sent.card_holder:
            expected[sending.sent.payload].append(sending.sent.event)
    assert arrived == expected


def test_card_holder_event_after_a_given_up_one_is_not_sent() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if b"emp-2" in request.content else 500)

    completed: list[Sending] = []
    sendings = [of_holder("created"), of_holder("identified"), of_holder("created", "emp-2")]
    tally = send(sendings, transport=httpx.MockTransport(handle), on_completed=completed.append)
    assert (tally.accepted, tally.refused, tally.given_up) == (1, 5, 2)
    assert "card_holder.identified" not in tally.by_event
    assert len(completed) == 3


def test_concurrent_requests_never_exceed_the_connections() -> None:
    under_way = 0
    most = 0
    all_there = asyncio.Event()

    async def handle(_: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 4:
            all_there.set()
        await all_there.wait()
        await asyncio.sleep(0)
        under_way -= 1
        return httpx.Response(200)

    tally = send([snapshot(number) for number in range(20)], transport=httpx.MockTransport(handle), connections=4)
    assert most == 4
    assert tally.accepted == 20


def test_cancelled_run_stops_and_its_tally_is_readable() -> None:
    async def scenario() -> tuple[DeliveryTally, int]:
        stuck = asyncio.Event()

        async def handle(request: httpx.Request) -> httpx.Response:
            if b"1" in request.content:
                return httpx.Response(200)
            stuck.set()
            await asyncio.Event().wait()
            raise AssertionError

        tally = DeliveryTally()
        sendings = [
            snapshot(1),
            *(snapshot(0) for _ in range(5)),
            of_holder("created", "emp"),
            of_holder("deleted", "emp"),
        ]
        run = asyncio.create_task(
            deliver_all(sendings, [webhook()], transport=httpx.MockTransport(handle), tally=tally)
        )
        await stuck.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return tally, len(asyncio.all_tasks())

    tally, tasks = asyncio.run(scenario())
    assert tally.accepted == 1
    assert tasks == 1


@pytest.mark.parametrize(("compression", "seconds"), [(None, 0.0), (3600.0, 24.0), (1.0, 86400.0)])
def test_virtual_time_passes_as_fast_as_asked(compression: float | None, seconds: float) -> None:
    first, later = (Sending(snapshot(1).sent, timedelta(days=days)) for days in (3, 4))
    assert due_after(later, first, compression) == pytest.approx(seconds)


def test_a_sending_is_not_sent_before_it_is_due() -> None:
    async def scenario(compression: float | None) -> int:
        tally = DeliveryTally()
        first, later = (Sending(snapshot(1).sent, timedelta(hours=hours)) for hours in (1, 2))
        run = asyncio.create_task(
            deliver_all([first, later], [webhook()], transport=answering(), compression=compression, tally=tally)
        )
        for _ in range(1000):  # turns of the loop, not time
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return tally.accepted

    assert asyncio.run(scenario(compression=None)) == 2
    assert asyncio.run(scenario(compression=1)) == 1


def test_missing_or_second_webhook_is_an_error_before_sending() -> None:
    with pytest.raises(ValueError, match="org-1"):
        send([snapshot(1)], webhook(organization="org-2"))
    with pytest.raises(ValueError, match="two"):
        send([snapshot(1)], webhook(), webhook())


@pytest.mark.parametrize(("name", "number"), [("connections", 0), ("compression", 0.0)])
def test_an_impossible_pace_is_refused_by_name(name: str, number: float) -> None:
    with pytest.raises(ValueError, match=name):
        send([snapshot(1)], **{name: number})


@pytest.mark.parametrize(("secret", "passes"), [(SECRET, True), ("another", False)])
def test_challenge_passes_only_with_the_right_secret(secret: str, passes: bool) -> None:  # noqa: FBT001
    async def ask(registration: Registration) -> bool:
        async with httpx.AsyncClient() as client:
            return await challenge(client, registration)

    with serve(secret=secret) as server:
        assert asyncio.run(ask(webhook(server.url))) is passes
    [question] = server.questions
    assert len(question) == 20
    assert question.isascii()
    assert question.isalnum()


@pytest.mark.parametrize("status", [None, 404, 200])
def test_a_challenge_fails_without_an_answer_or_without_a_token(status: int | None) -> None:
    async def ask() -> bool:
        async with httpx.AsyncClient(transport=answering(status)) as client:
            return await challenge(client, webhook())

    assert asyncio.run(ask()) is False
