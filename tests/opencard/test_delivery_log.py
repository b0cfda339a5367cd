"""Reading the delivery log: every spelling, any order, pages that shift, and no more pages than are needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.errors import AccessDenied, ResourceMissing, UnreadableAnswer
from receiver.opencard.delivery_log import MAX_PASSES, DeliveryLog, FetchedLogPage
from receiver.opencard.delivery_log_item import LogItem, read_item
from receiver.sandbox.provider.log_item import log_item
from receiver.sandbox.provider.resources import ProviderLogEntry as ShownEntry
from receiver.sandbox.story import make_story
from receiver.sandbox.story_events import comparable, read, write
from tests.opencard.conftest import as_json
from tests.support.log_styles import log_styles

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from receiver.opencard.auth import Access
    from receiver.sandbox.provider import LogStyle
    from tests.opencard.conftest import ApiWorld

NOW = datetime(2026, 1, 13, tzinfo=UTC)
BEGUN = datetime(2026, 1, 12, 8, 0, 0, 123456, tzinfo=UTC)
STORY = make_story(seed=3, organizations=["acme"], purchases=4).events
MINUTE = timedelta(minutes=1)
SCOPE = "webhook-events-read"


def item(**fields: object) -> LogItem:
    return read_item(json.dumps({"event": "card_holder.created", **fields}).encode(), now=NOW)


@given(style=log_styles, number=st.integers(0, len(STORY) - 1), status=st.sampled_from([None, 200, 503]))
@settings(deadline=None)
def test_every_spelling_parses_to_the_same_entry(style: LogStyle, number: int, status: int | None) -> None:
    sent = STORY[number]
    shown = ShownEntry(17, 7, sent.event, status, BEGUN, sent.payload)
    raw = write(log_item(shown, style))
    entry = read_item(raw, now=NOW)
    assert (entry.event, entry.response_status) == (sent.event, status)
    assert entry.attempted_at == (BEGUN if style.microseconds else BEGUN.replace(microsecond=0))
    assert entry.payload is not None
    assert comparable(read(entry.payload)) == comparable(read(sent.payload))
    assert (entry.id is None) == (style.id_name is None)
    assert entry.item == raw


def test_bytes_of_item_and_payload_are_kept_unchanged() -> None:
    payload = b'{ "b": 45.0,"a": "\\u0000\\u00e5/",  "c":1e2 }'
    raw = b'{"event":"card_holder.created", "payload": ' + payload + b', "other": 1.10}'
    entry = read_item(raw, now=NOW)
    assert (entry.payload, entry.item) == (payload, raw)


def test_string_payload_is_its_bytes() -> None:
    inside = '{"amount": 109.30, "name": "\\u0000å"}'
    assert item(body=inside).payload == inside.encode()


@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({"data": {"a": 1}, "payload": None}, b'{"a": 1}'),
        ({"payload": [1], "body": '{"a": 1}'}, b'{"a": 1}'),
        ({"payload": "OK", "data": {"a": 1}}, b'{"a": 1}'),
        ({"payload": "no JSON"}, b"no JSON"),
        ({"payload": ""}, None),
        ({"payload": None}, None),
        ({"payload": 5}, None),
        ({}, None),
    ],
)
def test_payload_is_found_under_each_name(fields: dict[str, object], payload: bytes | None) -> None:
    assert item(**fields).payload == payload


@pytest.mark.parametrize(
    ("status", "parsed"),
    [(200, 200), ("200", 200), (200.0, 200), (None, None), ("", None), ("ok", None), (True, None), (0, None),
     (10**30, None), ([], None)],
)  # fmt: skip
def test_status_is_a_number_in_any_form_or_unknown(status: object, parsed: int | None) -> None:
    assert item(status=status).response_status == parsed


def test_invalid_field_falls_back_to_the_next_one() -> None:
    entry = item(
        status="failed", status_code=503, attempted_at="soon", created_at="2026-01-12T08:00:00Z", id=None, uuid="u"
    )
    assert (entry.response_status, entry.id) == (503, "u")
    assert entry.attempted_at == datetime(2026, 1, 12, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "parsed"),
    [
        ("2026-01-12T08:00:00Z", datetime(2026, 1, 12, 8, tzinfo=UTC)),
        ("2026-01-12T13:30:00.5+05:30", datetime(2026, 1, 12, 8, 0, 0, 500000, tzinfo=UTC)),
        ("2026-01-12 08:00:00", datetime(2026, 1, 12, 8, tzinfo=UTC)),
        (1768204800, datetime(2026, 1, 12, 8, tzinfo=UTC)),
        (1768204800000, datetime(2026, 1, 12, 8, tzinfo=UTC)),
        (1e300, None),
        (-(10**20), None),
        (True, None),
        ("0001-01-01T00:00:00+05:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        ({}, None),
    ],
)
def test_time_is_parsed_in_utc_or_unknown(time: object, parsed: datetime | None) -> None:
    assert item(timestamp=time).attempted_at == parsed


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"{}",
        b'{"event": null}',
        b'{"event": 5}',
        b'{"event": ""}',
        b'{"event": "\\ud800"}',
        b'{"event": "cut',
    ],
)
def test_unreadable_item_is_an_entry_without_an_event(raw: bytes) -> None:
    assert read_item(raw, now=NOW) == LogItem(None, "", None, None, None, raw)


def test_nul_characters_are_replaced() -> None:
    entry = read_item(b'{"event": "a\\u0000b", "id": "c\\u0000d"}', now=NOW)
    assert (entry.event, entry.id) == ("a\N{REPLACEMENT CHARACTER}b", "c\N{REPLACEMENT CHARACTER}d")


@given(st.binary(max_size=40))
def test_any_bytes_are_parsed_without_error(raw: bytes) -> None:
    assert read_item(raw, now=NOW).item == raw
    assert read_item(b'{"event": "e", "payload": "' + raw + b'"}', now=NOW).item


@dataclass
class ListedLog:
    """A log of entries, one a minute, that may change while it is read."""

    number: int
    order: str = "newest-first"
    per_page: int = 10
    with_ids: bool = True
    with_times: bool = True
    shows_total: bool = True
    jitter: timedelta = timedelta()
    asked: list[int] = field(default_factory=list)
    before_page: Callable[[ListedLog, int], None] = lambda _log, _page: None
    extra: list[int] = field(default_factory=list)
    gone: int = 0

    def shown(self) -> list[LogItem]:
        rng = Random(1)  # noqa: S311 - to be the same again
        numbers = [*range(self.gone, self.number), *self.extra]
        drawn = {number: rng.random() for number in range(10_000)}
        entries = [
            LogItem(
                id=str(number) if self.with_ids else None,
                event="card_holder.created",
                response_status=200,
                attempted_at=BEGUN + number * MINUTE + self.jitter * drawn[number] if self.with_times else None,
                payload=None,
                item=b"%d" % number,
            )
            for number in numbers
        ]
        if self.order == "newest-first":
            entries.reverse()
        if self.order == "any":
            entries.sort(key=lambda entry: drawn[int(entry.item)])
        return entries

    def fetch(self, page: int) -> FetchedLogPage:
        self.before_page(self, page)
        self.asked.append(page)
        entries = self.shown()
        last_page = max(1, -(-len(entries) // self.per_page))
        return FetchedLogPage(
            entries[(page - 1) * self.per_page : page * self.per_page],
            last_page,
            len(entries) if self.shows_total else None,
        )

    def reading(self, since: int | None = None) -> DeliveryLog:
        return DeliveryLog(self.fetch, since=None if since is None else BEGUN + since * MINUTE)


def seen(reading: DeliveryLog) -> list[int]:
    """Return what counts, in the order in which it was read."""
    found: list[int] = []
    for page in reading.pages():
        if page.starts_over:
            found.clear()
        found += [int(entry.item) for entry in page.entries]
    return found


ORDERS = pytest.mark.parametrize("order", ["newest-first", "oldest-first", "any"])


@ORDERS
@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("number", [0, 1, 10, 11, 95])
def test_log_is_read_completely_with_each_entry_once(order: str, with_times: bool, number: int) -> None:  # noqa: FBT001
    log = ListedLog(number, order, with_times=with_times)
    assert sorted(seen(log.reading())) == list(range(number))


@pytest.mark.parametrize("order", ["newest-first", "oldest-first"])
@pytest.mark.parametrize("jitter", [timedelta(), timedelta(seconds=90)])
def test_only_the_new_end_of_an_ordered_log_is_read(order: str, jitter: timedelta) -> None:
    log = ListedLog(2000, order, jitter=jitter)
    assert set(seen(log.reading(since=1980))) >= set(range(1980, 2000))
    assert len(log.asked) <= 8


@pytest.mark.parametrize(("order", "with_times"), [("any", True), ("newest-first", False), ("oldest-first", False)])
def test_log_without_order_or_times_is_read_completely(order: str, with_times: bool) -> None:  # noqa: FBT001
    log = ListedLog(300, order, with_times=with_times)
    assert sorted(seen(log.reading(since=290))) == list(range(300))


@given(seed=st.integers(), per_page=st.integers(1, 4), since=st.integers(0, 60))
@settings(deadline=None)
def test_small_pages_do_not_make_disorder_look_ordered(seed: int, per_page: int, since: int) -> None:
    entries = ListedLog(60).shown()
    Random(seed).shuffle(entries)  # noqa: S311 - to be the same again

    def fetch(page: int) -> FetchedLogPage:
        return FetchedLogPage(
            entries[(page - 1) * per_page : page * per_page], -(-len(entries) // per_page), len(entries)
        )

    found = set(seen(DeliveryLog(fetch, since=BEGUN + since * MINUTE)))
    assert found >= set(range(since, 60))


def test_log_ordered_only_at_its_end_is_read_completely() -> None:
    entries = ListedLog(400, "oldest-first").shown()
    entries[355], entries[5] = entries[5], entries[355]  # the fifth page from the end holds an old one

    def fetch(page: int) -> FetchedLogPage:
        return FetchedLogPage(entries[(page - 1) * 10 : page * 10], 40, 400)

    assert sorted(seen(DeliveryLog(fetch, since=BEGUN + 340 * MINUTE))) == list(range(400))


@ORDERS
@pytest.mark.parametrize("with_ids", [True, False])
def test_entries_that_appear_during_reading_hide_none(order: str, with_ids: bool) -> None:  # noqa: FBT001
    def one_more(log: ListedLog, page: int) -> None:
        if page > 1 and log.number < 60:
            log.number += 1

    log = ListedLog(50, order, with_ids=with_ids, before_page=one_more)
    reading = log.reading()
    found = seen(reading)
    assert set(found) >= set(range(50))
    if not with_ids:
        assert reading.merge_equal or len(set(found)) == len(found)


def test_growing_log_without_ids_is_read_again() -> None:
    def once(log: ListedLog, page: int) -> None:
        if page == 3 and log.number == 50:
            log.number = 51

    log = ListedLog(50, with_ids=False, before_page=once)
    reading = log.reading()
    assert sorted(seen(reading)) == list(range(51))
    assert not reading.merge_equal
    assert log.asked.count(1) == 2


def test_ever_growing_log_without_ids_merges_equal_entries() -> None:
    def always(log: ListedLog, _page: int) -> None:
        log.number += 1

    log = ListedLog(50, with_ids=False, before_page=always)
    reading = log.reading()
    assert set(seen(reading)) >= set(range(50))
    assert reading.merge_equal
    assert log.asked.count(1) == MAX_PASSES


def test_log_cut_at_its_beginning_is_read_again() -> None:
    def once(log: ListedLog, page: int) -> None:
        if page == 3:
            log.gone = 7

    log = ListedLog(50, "any", before_page=once)
    assert sorted(seen(log.reading())) == list(range(7, 50))


def test_log_without_total_merges_equal_entries() -> None:
    reading = ListedLog(50, with_ids=False, shows_total=False).reading()
    assert sorted(seen(reading)) == list(range(50))
    assert reading.merge_equal


def read_over_http(world: ApiWorld, webhook: int, since: datetime | None = None) -> list[LogItem]:
    api = world.api(SCOPE)
    reading = DeliveryLog.of(api, organization_id=world.organization.id, webhook=webhook, since=since)
    return [entry for page in reading.pages() for entry in page.entries]


def test_log_is_read_over_http_with_one_scope(world: ApiWorld) -> None:
    webhook = world.add_webhook()
    for number, sent in enumerate(STORY):
        world.provider.state.log_attempt(webhook, sent.event, 200, BEGUN + number * MINUTE, sent.payload)
    entries = read_over_http(world, webhook)
    assert [entry.event for entry in entries] == [sent.event for sent in reversed(STORY)]
    assert [comparable(read(entry.payload or b"")) for entry in entries] == [
        comparable(read(sent.payload)) for sent in reversed(STORY)
    ]
    assert world.provider.requests.scopes_used() == {SCOPE}


def test_refusal_of_the_log_is_named(world: ApiWorld) -> None:
    webhook = world.add_webhook()
    with pytest.raises(ResourceMissing, match=rf"/webhooks/{webhook + 1}/events \(scope {SCOPE}"):
        read_over_http(world, webhook + 1)
    foreign = world.provider.state.add_organization("other", account_id=2)
    reading = DeliveryLog.of(world.api(SCOPE), organization_id=foreign.id, webhook=webhook)
    with pytest.raises((AccessDenied, ResourceMissing), match=rf"organization {foreign.id}"):
        list(reading.pages())


@pytest.mark.parametrize("answer", [{"items": []}, {"data": {}}, {"data": [], "last_page": "many"}, 5])
def test_answer_that_is_not_a_list_is_named(
    answering: Callable[[Callable[[Request], Response]], Access], world: ApiWorld, answer: Any
) -> None:
    access = answering(lambda _request: as_json(answer))
    reading = DeliveryLog.of(world.api(SCOPE, access=access), organization_id=1, webhook=2)
    with pytest.raises(UnreadableAnswer, match="not what is documented"):
        list(reading.pages())


def test_bare_list_and_numbers_as_strings_are_parsed() -> None:
    assert len(FetchedLogPage.read(b' [{"event": "a"}, 5]', now=NOW).entries) == 2
    fetched = FetchedLogPage.read(b'{"data": [{"event": "a"}], "last_page": "3", "total": "7", "per_page": 1}', now=NOW)
    assert (fetched.last_page, fetched.total, fetched.entries[0].event) == (3, 7, "a")


def test_status_of_a_million_digits_is_none() -> None:
    entry = read_item(b'{"event": "e", "status": 1e999999, "created_at": 1e999999}', now=NOW)
    assert (entry.response_status, entry.attempted_at) == (None, None)
