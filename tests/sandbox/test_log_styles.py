"""The delivery log over HTTP, in every spelling that the contract leaves open."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.sandbox.provider import LogStyle, ProviderLogEntry
from receiver.sandbox.provider.log import ProviderLog
from receiver.sandbox.provider.log_item import log_item
from receiver.sandbox.provider.refusals import Refused
from receiver.sandbox.provider.rewrite_json import rewrite_json
from receiver.sandbox.story import make_story
from receiver.sandbox.story_events import read
from receiver.sandbox.tally import DeliveryAttempt
from tests.support.log_styles import log_styles
from tests.support.provider_ends import ServedProvider, opencard, webhooks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

BEGUN = datetime(2026, 1, 12, 8, 0, 0, 123456, tzinfo=UTC)
STORY = make_story(seed=3, organizations=["acme"], purchases=4)
STATUSES = (None, 503, 200)
ATTEMPTS = [
    DeliveryAttempt("acme", sent.event, STATUSES[number % 3], BEGUN + timedelta(seconds=number), sent.payload)
    for number, sent in enumerate(STORY.events)
]
ENTRIES = [
    ProviderLogEntry(number, 7, attempt.event, attempt.status, attempt.at, attempt.body)
    for number, attempt in enumerate(ATTEMPTS, start=1)
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False, places=4)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


def read_back(item: dict[str, Any], style: LogStyle) -> tuple[str, int | None, datetime, Any]:
    """Return what an item says, read as the style says and not otherwise."""
    status = item[style.status_name]
    assert status is None or isinstance(status, str if style.status_form == "text" else int)
    payload = item[style.payload_name]
    assert isinstance(payload, str if style.payload_form == "text" else dict)
    at = datetime.fromisoformat(item[style.time_name])
    assert (at.tzinfo is None) == (style.time_form == "plain")
    return (
        item["event"],
        None if status is None else int(status),
        at.replace(tzinfo=at.tzinfo or UTC),
        read(payload.encode()) if isinstance(payload, str) else payload,
    )


def precise(at: datetime, style: LogStyle) -> datetime:
    return at if style.microseconds else at.replace(microsecond=0)


def known_names(style: LogStyle) -> set[str]:
    named = {"event", style.payload_name, style.time_name, style.status_name}
    return named if style.id_name is None else {*named, style.id_name}


@pytest.fixture(scope="module")
def party() -> Iterator[ServedProvider]:
    with opencard(per_page=7) as party:
        yield party


@pytest.fixture(scope="module")
def log_path(party: ServedProvider) -> str:
    acme = party.provider.state.add_organization("acme")
    webhook = party.provider.state.add_webhook(acme.id, "http://127.0.0.1:1/hook")
    party.provider.state.log_attempts(webhook.id, ATTEMPTS)
    return f"{webhooks_of(acme)}/{webhook.id}/events"


def hand(value: object, seed: int) -> str:
    return rewrite_json(value, Random(seed))  # noqa: S311 - to be the same again


def exactly(answer: httpx.Response) -> Any:
    return read(answer.content)["data"]


def log_in(party: ServedProvider, path: str, style: LogStyle) -> list[Any]:
    party.provider.behaviour.log_style = style
    pages = party.get(path)["last_page"]
    return [
        item for number in range(1, pages + 1) for item in exactly(party.call("GET", path, params={"page": number}))
    ]


@given(style=log_styles)
@settings(deadline=None, max_examples=30)
def test_every_attempt_can_be_read_back_in_every_spelling(
    party: ServedProvider, log_path: str, style: LogStyle
) -> None:
    items = log_in(party, log_path, style)
    expected = [(one.event, one.status, precise(one.at, style), read(one.body)) for one in ATTEMPTS]
    found = [read_back(item, style) for item in items]
    match style.order:
        case "newest-first":
            assert found == expected[::-1]
        case "oldest-first":
            assert found == expected
        case "any":
            assert sorted(found, key=lambda one: one[2]) == expected
    for item in items:
        assert set(item) == known_names(style) if not style.unknown_fields else set(item) > known_names(style)
    ids = [item[style.id_name] for item in items if style.id_name]
    assert len(set(ids)) == len(ids)


def test_default_log_style_is_the_published_example(party: ServedProvider, log_path: str) -> None:
    [newest, *_] = log_in(party, log_path, LogStyle())
    assert newest.items() > {"event": ATTEMPTS[-1].event, "status": ATTEMPTS[-1].status}.items()
    assert newest["created_at"] == f"{ATTEMPTS[-1].at:%Y-%m-%dT%H:%M:%S.%f}Z"
    assert newest["payload"] == read(ATTEMPTS[-1].body)
    assert isinstance(newest["id"], int)


@pytest.mark.parametrize(
    ("form", "microseconds", "written"),
    [
        ("zulu", True, "2026-01-12T08:00:00.123456Z"),
        ("zulu", False, "2026-01-12T08:00:00Z"),
        ("offset", True, "2026-01-12T13:30:00.123456+05:30"),
        ("offset", False, "2026-01-12T13:30:00+05:30"),
        ("plain", True, "2026-01-12 08:00:00.123456"),
        ("plain", False, "2026-01-12 08:00:00"),
    ],
)
def test_a_time_is_written_in_each_form(form: Any, microseconds: bool, written: str) -> None:  # noqa: FBT001
    style = LogStyle(time_form=form, microseconds=microseconds)
    assert log_item(ENTRIES[0], style)["created_at"] == written


def test_attempt_can_lack_its_payload(party: ServedProvider, log_path: str) -> None:
    shown = log_in(party, log_path, LogStyle())
    without = {item["id"] for item in shown[:5]}
    items = log_in(party, log_path, LogStyle(payload_name="body", without_payload=frozenset(without)))
    assert {item["id"] for item in items if "body" not in item} == without
    assert [item["event"] for item in items] == [item["event"] for item in shown]


@given(style=log_styles, gaps=st.sets(st.integers(min_value=0, max_value=len(ENTRIES) + 1)))
@settings(deadline=None)
def test_gap_removes_its_attempts_and_keeps_the_order(style: LogStyle, gaps: set[int]) -> None:
    log = ProviderLog(list(ENTRIES))
    whole = list(log.view(style))
    assert list(log.view(replace(style, gaps=frozenset(gaps)))) == [entry for entry in whole if entry.id not in gaps]


@given(style=log_styles, shown=st.integers(min_value=0, max_value=len(ENTRIES)))
@settings(deadline=None)
def test_new_attempts_change_no_earlier_view_of_the_log(style: LogStyle, shown: int) -> None:
    log = ProviderLog(ENTRIES[:shown])
    view = log.view(style)
    before = list(view)
    log.entries.extend(ENTRIES[shown:])
    assert list(view) == before
    after = list(log.view(style))
    assert len(after) == len(ENTRIES)
    assert [entry for entry in after if entry in before] == before


def test_attempt_logged_during_reading_shifts_the_pages() -> None:
    with opencard(per_page=2) as party:
        state = party.provider.state
        acme = state.add_organization("acme")
        webhook = state.add_webhook(acme.id, "http://127.0.0.1:1/hook")
        ids = state.log_attempts(webhook.id, ATTEMPTS[:4])

        def write_down(path: str, page: int) -> None:
            assert path.endswith("/events")
            if page == 2:
                ids.extend(state.log_attempts(webhook.id, ATTEMPTS[4:5]))

        party.provider.behaviour.before_page = write_down
        items = party.all_pages(f"{webhooks_of(acme)}/{webhook.id}/events")
    assert [item["id"] for item in items] == [ids[3], ids[2], ids[2], ids[1]]


def test_a_page_of_a_long_log_reads_only_its_own_entries() -> None:
    class Counting(list[ProviderLogEntry]):
        read = 0

        def __getitem__(self, index: Any) -> Any:
            self.read += 1
            return super().__getitem__(index)

        def __iter__(self) -> Iterator[ProviderLogEntry]:
            self.read += len(self)
            return super().__iter__()

    entries = Counting(ENTRIES[:1] * 100_000)
    log = ProviderLog(entries)
    for first in (0, 50_000, 99_985):
        assert len(log.view(LogStyle())[first : first + 15]) == 15
    assert entries.read == 45


@given(value=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values), seed=st.integers())
@settings(deadline=None)
def test_rewritten_payload_equals_by_value(value: dict[str, Any], seed: int) -> None:
    rewritten = json.loads(hand(value, seed), parse_float=Decimal)
    assert rewritten == value


def test_rewritten_payload_differs_only_in_its_bytes() -> None:
    sent = '{"a":45,"b":45.0,"c":109.30,"d":"å/b"}'
    hands = {hand(read(sent.encode()), seed) for seed in range(200)}
    assert len(hands) > 100
    for words in ('"a":45.0', '"b":45,', '"a": 45', "109.3", "109.30", "\\u00e5", "å", "\\/b", "\n"):
        assert any(words in hand for hand in hands), words
    assert any(hand.index('"d"') < hand.index('"a"') for hand in hands)


def test_each_attempt_keeps_its_own_spelling() -> None:
    style = LogStyle(payload_form="text", reserialized=True, seed=1)
    entries = [replace(ENTRIES[-1], id=number) for number in range(20)]
    written = [log_item(entry, style)["payload"] for entry in entries]
    assert len(set(map(str, written))) > 3
    assert [log_item(entry, style)["payload"] for entry in entries] == written


def test_removed_webhook_cannot_log_attempts() -> None:
    with opencard() as party, pytest.raises(Refused):
        party.provider.state.log_attempts(1, ATTEMPTS)
