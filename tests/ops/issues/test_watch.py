"""The scheduler keeps the issues, sends the messages, and fetches the heartbeat's URL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from flask import Flask, request
from sqlalchemy import text

from receiver.locks import Lock
from receiver.ops.issues import watch
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.store import list_issues
from receiver.variables import NotifyUrl
from tests.support.serving import served
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.settings import Settings
    from tests.conftest import Acme

SECONDS = 60.0


class AskedServer:
    """What was asked of a server of ours, by path."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.app = Flask(__name__)
        self.app.add_url_rule("/<name>", view_func=self.take, methods=["GET", "POST"])
        self.url = ""

    def take(self, name: str) -> str:
        title = request.get_json()["title"] if request.method == "POST" else ""
        self.asked.append(f"{name} {title}".strip())
        return ""


@pytest.fixture
def web() -> Iterator[AskedServer]:
    web = AskedServer()
    with served(web.app) as web.url:
        yield web


@pytest.fixture
def watched(settings: Settings, web: AskedServer) -> Settings:
    """Return settings with an address for messages and a heartbeat, of a service without OpenCard's API."""
    address = NotifyUrl(f"{web.url.replace('http://', 'json://')}/messages", "warning")
    return replace(settings, notify_urls=(address,), heartbeat_url=f"{web.url}/heartbeat", reconcile_interval=0)


def open_kinds(acme: Acme) -> list[str]:
    with acme.engine.connect() as connection:
        return [each.issue.kind for each in list_issues(connection, states=[State.OPEN], most=10)]


def test_problem_is_recorded_reported_and_resolved(acme: Acme, watched: Settings, web: AskedServer) -> None:
    message = "messages OpenCard receiver: webhook-inactive {} (acme)"
    with watch.watching(watched):
        assert eventually(lambda: "heartbeat" in web.asked, within=SECONDS)
        acme.execute("UPDATE receiver.webhooks SET active = false")
        assert eventually(lambda: message.format("open") in web.asked, within=SECONDS)
        assert open_kinds(acme) == ["webhook-inactive"]
        acme.execute("UPDATE receiver.webhooks SET active = true")
        assert eventually(lambda: open_kinds(acme) == [], within=SECONDS)
        acme.execute("UPDATE receiver.notifications SET due_at = due_at - interval '1 minute'")
        assert eventually(lambda: message.format("resolved") in web.asked, within=SECONDS)
    assert sorted(set(web.asked) - {"heartbeat"}) == [message.format("open"), message.format("resolved")]


def test_the_heartbeat_stops_while_a_critical_issue_is_open(acme: Acme, watched: Settings, web: AskedServer) -> None:
    assert watch.look(acme.engine, watched, ())
    acme.execute("UPDATE receiver.webhooks SET active = false")
    assert not watch.look(acme.engine, watched, ())
    heartbeat = watch.Heartbeat(watched.heartbeat_url)
    heartbeat.beat(well=False)
    assert web.asked == []
    heartbeat.beat(well=True)
    heartbeat.beat(well=True)
    assert web.asked == ["heartbeat"], "once a minute"


def test_one_scheduler_looks_at_a_time(acme: Acme, watched: Settings) -> None:
    acme.execute("UPDATE receiver.webhooks SET active = false")
    with acme.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": Lock.ISSUES})
        assert not watch.look(acme.engine, watched, ())
        assert open_kinds(acme) == []
    watch.look(acme.engine, watched, ())
    assert open_kinds(acme) == ["webhook-inactive"]


def test_a_storm_of_failures_of_one_cause_is_one_issue(acme: Acme, watched: Settings) -> None:
    for _ in range(5):
        acme.apply("card_holder.created", b"{}")
    watch.look(acme.engine, watched, ())
    with acme.engine.connect() as connection:
        (stored,) = list_issues(connection, states=[State.OPEN], most=10)
    assert (stored.issue.kind, stored.issue.count) == ("deliveries-dead", 5)
    assert stored.issue.organization_reference_id == "acme"
