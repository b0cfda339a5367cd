"""Which of the deliveries that arrived is the test? Decided without database, network and clock."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.events.content import fingerprint
from receiver.events.event import StoredDelivery
from receiver.events.recognize import Decision, decide, spellings, told_fingerprint
from receiver.events.registry import load_handlers
from tests.factories import body, snapshot

EVENT = "card.transaction.cleared"


def candidate(number: int, payload: object, **changes: Any) -> StoredDelivery:
    stored = StoredDelivery(number, "acme", EVENT, "1", body(payload), "push", datetime(2026, 2, 1, tzinfo=UTC), 0)
    return dataclasses.replace(stored, **changes)


def purchase(number: int, organization: str = "acme") -> dict[str, Any]:
    return snapshot("cleared", transaction=f"t{number}", organization={"reference_id": organization})


def told(payload: object) -> bytes:
    return fingerprint(EVENT, body(payload), "acme")


def test_what_opencard_said_it_sends_is_the_test_and_the_others_are_real() -> None:
    others = [candidate(number, purchase(number)) for number in (1, 2)]
    foreign = candidate(3, purchase(3, "globex"))
    test = candidate(4, purchase(4))
    assert decide([*others, foreign, test], told=told(purchase(4)), sent=True) == Decision(4)


def test_what_opencard_said_is_compared_by_value() -> None:
    payload = purchase(1) | {"original_amount": 45}
    sent = body(dict(reversed(payload.items()))).replace(b'"original_amount":45', b'"original_amount":45.0')
    assert sent != body(payload)
    assert decide([candidate(1, sent), candidate(2, purchase(2))], told=told(payload), sent=True) == Decision(1)


def test_the_only_one_of_another_organization_is_the_test_and_the_others_are_real() -> None:
    candidates = [candidate(1, purchase(1)), candidate(2, purchase(2, "example")), candidate(3, purchase(3))]
    assert decide(candidates, told=None, sent=True) == Decision(2)


def test_the_only_one_there_is_is_the_test() -> None:
    assert decide([candidate(1, purchase(1))], told=None, sent=True) == Decision(1)
    assert decide([candidate(1, b"not JSON")], told=None, sent=True) == Decision(1)
    assert decide([], told=None, sent=True) == Decision()


@pytest.mark.parametrize(
    ("candidates", "told_payload", "sent", "unclear"),
    [
        ([candidate(1, purchase(1)), candidate(2, purchase(2))], None, True, (1, 2)),
        ([candidate(1, purchase(1)), candidate(2, purchase(1))], None, True, (1, 2)),
        ([candidate(1, purchase(1)), candidate(2, purchase(1)), candidate(3, purchase(3))], purchase(1), True, (1, 2)),
        ([candidate(1, purchase(1, "x")), candidate(2, purchase(2, "y"))], None, True, (1, 2)),
        ([candidate(1, purchase(1))], purchase(2), True, (1,)),
        ([candidate(1, purchase(1))], None, False, (1,)),
        ([candidate(1, purchase(1, "x")), candidate(2, purchase(2))], None, False, (1,)),
        ([candidate(1, purchase(1), source="log")], None, True, (1,)),
    ],
    ids=[
        "two",
        "two equal ones",
        "two that OpenCard may have meant",
        "two of other organizations",
        "not what OpenCard said",
        "OpenCard may not have been asked",
        "likewise, of another organization",
        "found in OpenCard's log",
    ],
)
def test_what_cannot_be_told_waits_for_a_person(
    candidates: list[StoredDelivery],
    told_payload: object,
    sent: bool,  # noqa: FBT001 - pytest passes by name
    unclear: tuple[int, ...],
) -> None:
    fingerprint_told = None if told_payload is None else told(told_payload)
    assert decide(candidates, told=fingerprint_told, sent=sent) == Decision(unclear=unclear)


HOSTILE = [
    b"",
    b"[]",
    b"[" * 100_000,
    b'{"a":1e999999999}',
    b'{"a":' + b"9" * 5000 + b"}",
    b"\xff",
    b'{"organization":[]}',
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_what_cannot_be_read_is_decided_on_like_anything_else(content: bytes) -> None:
    assert decide([candidate(1, content)], told=None, sent=True) == Decision(1)
    both = [candidate(1, content), candidate(2, purchase(2))]
    assert decide(both, told=None, sent=True) == Decision(unclear=(1, 2))
    assert decide(both, told=told(purchase(2)), sent=True) == Decision(2)


@given(
    real=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["acme", "acme", "example"])), max_size=4),
    test=st.none() | st.tuples(st.integers(0, 3), st.sampled_from(["acme", "example"])),
    tells=st.booleans(),
    sent=st.booleans(),
    data=st.data(),
)
def test_no_real_event_is_taken_for_the_test_and_no_test_for_a_real_event(
    real: list[tuple[int, str]],
    test: tuple[int, str] | None,
    tells: bool,  # noqa: FBT001 - hypothesis passes by name
    sent: bool,  # noqa: FBT001 - likewise
    data: st.DataObject,
) -> None:
    """Unless the test is late or lost: then a real event that came alone, or alone named another organization, looks
    exactly like it. A real event of another organization is applied in no case.
    """
    arrived = [(purchase(*each), False) for each in real] + ([(purchase(*test), True)] if test else [])
    arrived = data.draw(st.permutations(arrived))
    candidates = [candidate(number, payload) for number, (payload, _) in enumerate(arrived)]
    meant = purchase(*test) if test else purchase(9)
    decision = decide(candidates, told=told(meant) if tells else None, sent=sent or tells)
    assert decision.test is None or decision.unclear == ()
    foreigners = sum(payload["organization"]["reference_id"] != "acme" for payload, _ in arrived)
    for number, (payload, is_test) in enumerate(arrived):
        foreign = payload["organization"]["reference_id"] != "acme"
        processed = number != decision.test and number not in decision.unclear
        if is_test:
            assert not processed or (foreigners == 1 and not tells)  # another webhook's event came to this one
        elif number == decision.test:
            equal = payload == meant
            alone = len(arrived) == 1 and test is None and not tells and sent
            assert equal or alone or foreign


@pytest.mark.parametrize("name", ["payload", "data", "body"])
def test_the_answer_may_tell_what_is_sent(name: str) -> None:
    answer = msgspec.json.encode({"message": "sent", name: msgspec.Raw(body(purchase(1)))})
    assert told_fingerprint(EVENT, answer, load_handlers(), "acme") == told(purchase(1))


@pytest.mark.parametrize(
    "answer",
    [b"", b"null", b"[]", b'{"message":"sent"}', b'{"data":{"id":"5","status":"queued"}}', b'{"data":"x"}', b"{\xff"]
    + [b'{"payload":' + content + b"}" for content in HOSTILE],
)
def test_an_answer_that_tells_no_payload_of_the_event_tells_nothing(answer: bytes) -> None:
    assert told_fingerprint(EVENT, answer, load_handlers(), "acme") is None


def test_an_event_is_awaited_under_all_its_names() -> None:
    assert spellings("environmental.impact.deedster") == [
        "environmental.impact.deedster",
        "environmental_impact.deedster",
    ]
    assert spellings(EVENT) == [EVENT]
