"""Messages about issues, taken by a server that fails, is slow, and comes back: exactly one of each."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.errors import ConfigurationError
from receiver.ops.findings import Finding, FindingKind
from receiver.ops.issues import lifecycle
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.notifications import note_changes, send_due, targets_of
from receiver.ops.issues.store import answer, compare, list_issues
from receiver.variables import NotifyUrl

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from receiver.ops.issues.lifecycle import Issue
    from receiver.settings import Settings
    from tests.support.alert_channel import Channel

AT = datetime(2026, 3, 1, 2, 41, tzinfo=UTC)
INACTIVE = Finding(FindingKind.WEBHOOK_INACTIVE, "webhook 1 (acme): not active", "webhook 1", "acme")
MILD = Finding(FindingKind.RETENTION, "retention: the last run failed")


class NotificationService:
    """The issues of a service whose messages go to a channel."""

    def __init__(self, engine: Engine, settings: Settings, channel: Channel) -> None:
        self.engine = engine
        urls = (NotifyUrl(f"{channel.url}/all", "warning"), NotifyUrl(f"{channel.url}/pager", "critical"))
        self.targets = targets_of(replace(settings, notify_urls=urls))
        self.minutes = 0

    def look(self, *findings: Finding) -> None:
        self.minutes += 1
        with self.engine.begin() as connection:
            changed = compare(connection, findings, at=AT + timedelta(minutes=self.minutes))
            note_changes(connection, changed, self.targets)

    def send(self) -> int:
        return send_due(self.engine, self.targets, link="https://hooks.example.com")

    def later(self, interval: str) -> None:
        with self.engine.begin() as connection:
            statement = "UPDATE receiver.notifications SET due_at = due_at - i, sent_at = sent_at - i"
            connection.execute(text(f"{statement} FROM CAST(:i AS interval) AS i"), {"i": interval})


@pytest.fixture
def service(engine: Engine, settings: Settings, channel: Channel) -> NotificationService:
    return NotificationService(engine, settings, channel)


def test_each_change_is_sent_once_to_each_address(service: NotificationService, channel: Channel) -> None:
    service.look(INACTIVE)
    assert service.send() == 2
    assert service.send() == 0
    service.look(INACTIVE)
    assert service.send() == 0
    service.look()
    assert service.send() == 0, "not within a minute"
    service.later("1 minute")
    assert service.send() == 2
    assert channel.titles == ["webhook-inactive open (acme)"] * 2 + ["webhook-inactive resolved (acme)"] * 2
    body = channel.messages[0]["message"]
    assert body.startswith(
        "webhook 1 (acme): not active\nsince 2026-03-01 02:42:00 UTC\nhttps://hooks.example.com/ops/issues/"
    )
    assert body.rpartition("/")[2].isdecimal()
    assert [message["type"] for message in channel.messages] == ["failure"] * 2 + ["success"] * 2


def test_message_has_an_example_and_what_to_do(service: NotificationService, channel: Channel) -> None:
    dead = Finding(FindingKind.DEAD, "2 dead", "x: y", "acme", 2, command="receiver list", example_delivery_id=17)
    service.look(dead)
    service.send()
    lines = channel.messages[0]["message"].splitlines()
    assert lines[2:4] == ["receiver list", "for example https://hooks.example.com/ops/deliveries/17"]
    service.look()
    service.later("1 minute")
    service.send()
    assert "deliveries/17" not in channel.messages[-1]["message"], "it ended: there is nothing to do"


def test_a_mild_issue_is_not_sent_to_the_pager(service: NotificationService, channel: Channel) -> None:
    service.look(MILD, INACTIVE)
    service.send()
    assert sorted((message["channel"], message["type"]) for message in channel.messages) == [
        ("all", "failure"),
        ("all", "warning"),
        ("pager", "failure"),
    ]


def test_refused_message_is_sent_until_it_is_accepted(service: NotificationService, channel: Channel) -> None:
    channel.failures = 5
    service.look(MILD)
    for _ in range(5):
        assert service.send() == 0
        assert service.send() == 0, "after a pause"
        service.later("5 minutes")
    assert service.send() == 1
    service.later("5 minutes")
    assert service.send() == 0
    assert channel.titles == ["retention-failing open"]


def test_two_that_send_at_once_send_each_message_once(service: NotificationService, channel: Channel) -> None:
    others: list[int] = []
    take = channel.take

    def slow(name: str) -> tuple[str, int]:
        others.append(service.send())  # while the first waits for the answer
        return take(name)

    channel.app.view_functions["take"] = slow
    service.look(MILD)
    assert service.send() == 1
    assert others == [0]
    assert channel.titles == ["retention-failing open"]


def test_flapping_within_a_minute_is_no_storm(service: NotificationService, channel: Channel) -> None:
    for _ in range(50):
        service.look(MILD)
        service.send()
        service.look()
        service.send()
    assert channel.titles == ["retention-failing open"]
    service.later("1 minute")
    assert service.send() == 1
    assert channel.titles == ["retention-failing open", "retention-failing resolved"]


def test_unsent_issue_is_reported_when_resolved(service: NotificationService, channel: Channel) -> None:
    service.look(MILD)
    service.look()
    assert service.send() == 1
    assert channel.titles == ["retention-failing resolved"]
    assert "since 2026-03-01 02:42:00 UTC, until 2026-03-01 02:43:00 UTC" in channel.messages[0]["message"]


def test_an_open_issue_is_repeated_once_a_day(service: NotificationService, channel: Channel) -> None:
    service.look(MILD)
    service.send()
    service.later("23 hours")
    assert service.send() == 0
    service.later("61 minutes")
    assert service.send() == 1
    assert service.send() == 0
    assert channel.titles == ["retention-failing open", "retention-failing still open"]


@pytest.mark.parametrize(
    ("answered", "state", "kind"),
    [
        (partial(lifecycle.acknowledge, until=None, until_it_grows=False), "acknowledged", "info"),
        (partial(lifecycle.resolve, at=AT + timedelta(hours=1)), "resolved", "success"),
    ],
)
def test_an_answer_is_sent_and_ends_the_reminders(
    service: NotificationService, channel: Channel, answered: Callable[..., Issue], state: str, kind: str
) -> None:
    service.look(MILD)
    service.send()
    with service.engine.begin() as connection:
        (stored,) = list_issues(connection, states=[State.OPEN], limit=10)
        answer(connection, stored.id, partial(answered, by="kim@ops", note="known"))
    assert service.send() == 0, "not within a minute"
    service.later("1 minute")
    assert service.send() == 1
    assert channel.titles == ["retention-failing open", f"retention-failing {state}"]
    assert (channel.messages[-1]["type"], "kim@ops: known" in channel.messages[-1]["message"]) == (kind, True)
    service.later("25 hours")
    service.look(MILD)
    assert service.send() == 0, "no reminder"
    service.look()
    assert service.send() == (1 if state == "acknowledged" else 0), "its end, unless that was sent"


def test_a_change_while_a_message_is_on_its_way_is_sent_too(service: NotificationService, channel: Channel) -> None:
    take = channel.take

    def over_meanwhile(name: str) -> tuple[str, int]:
        service.look()
        return take(name)

    channel.app.view_functions["take"] = over_meanwhile
    service.look(MILD)
    assert service.send() == 1
    channel.app.view_functions["take"] = take
    assert service.send() == 0
    service.later("1 minute")
    assert service.send() == 1
    assert channel.titles == ["retention-failing open", "retention-failing resolved"]


def test_a_clock_that_was_set_back_delays_no_message(service: NotificationService, channel: Channel) -> None:
    service.look(MILD)
    service.later("-2 hours")
    assert service.send() == 1
    assert channel.titles == ["retention-failing open"]


def test_an_address_that_hangs_does_not_keep_others_waiting(
    engine: Engine, settings: Settings, service: NotificationService, channel: Channel
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and never answers
        hangs = NotifyUrl(f"json://127.0.0.1:{mute.getsockname()[1]}/?cto=0.2&rto=0.2", "warning")
        urls = (hangs, NotifyUrl(f"{channel.url}/all", "warning"))
        service.targets = targets_of(replace(settings, notify_urls=urls))
        service.look(MILD)
        assert service.send() == 1
    assert channel.titles == ["retention-failing open"]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT max(attempts) FROM receiver.notifications")) == 1


def test_unknown_address_is_refused(settings: Settings) -> None:
    urls = (NotifyUrl("json://127.0.0.1", "warning"), NotifyUrl("nonsense://secret", "warning"))
    with pytest.raises(ConfigurationError, match=r"^NOTIFY_URLS: entry 2 of 2 is not a URL that Apprise knows$"):
        targets_of(replace(settings, notify_urls=urls))
