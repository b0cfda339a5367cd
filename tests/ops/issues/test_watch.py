"""The scheduler keeps the issues, sends the messages, and fetches the heartbeat's URL."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from flask import Flask, request
from sqlalchemy import text

from receiver.locks import Lock
from receiver.ops.issues import outage as outage_module
from receiver.ops.issues import watch
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.notifications import send_due, targets_of
from receiver.ops.issues.store import list_issues
from receiver.variables import NotifyUrl
from tests.support.applications import unreachable_redis
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
        self.fails = False
        self.app = Flask(__name__)
        self.app.add_url_rule("/<name>", view_func=self.take, methods=["GET", "POST"])
        self.url = ""

    def take(self, name: str) -> tuple[str, int]:
        title = request.get_json()["title"] if request.method == "POST" else ""
        self.asked.append(f"{name} {title}".strip())
        return "", 500 if self.fails else 200


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
        return [each.issue.kind for each in list_issues(connection, states=[State.OPEN], limit=10)]


def test_problem_is_recorded_reported_and_resolved(acme: Acme, watched: Settings, web: AskedServer) -> None:
    message = "messages OpenCard receiver: webhook-inactive {} (acme)"
    with watch.watching(watched, check_seconds=0.5):
        assert eventually(lambda: "heartbeat" in web.asked, within=SECONDS)
        assert acme.value("SELECT version FROM receiver.deploys") == version("opencard-receiver")
        acme.execute("UPDATE receiver.webhooks SET active = false")
        assert eventually(lambda: message.format("open") in web.asked, within=SECONDS)
        assert open_kinds(acme) == ["webhook-inactive"]
        acme.execute("UPDATE receiver.webhooks SET active = true")
        assert eventually(lambda: open_kinds(acme) == [], within=SECONDS)
        acme.execute("UPDATE receiver.notifications SET due_at = due_at - interval '1 minute'")
        assert eventually(lambda: message.format("resolved") in web.asked, within=SECONDS)
    assert sorted(set(web.asked) - {"heartbeat"}) == [message.format("open"), message.format("resolved")]


def test_the_heartbeat_stops_while_a_critical_issue_is_open(acme: Acme, watched: Settings, web: AskedServer) -> None:
    assert watch.check(acme.engine, watched, ())
    acme.execute("UPDATE receiver.webhooks SET active = false")
    assert not watch.check(acme.engine, watched, ())
    heartbeat = watch.Heartbeat(watched.heartbeat_url)
    heartbeat.beat(well=False)
    assert web.asked == []
    heartbeat.beat(well=True)
    heartbeat.beat(well=True)
    assert web.asked == ["heartbeat"], "once a minute"


def test_a_dead_worker_is_an_issue_for_a_quarter_of_an_hour(acme: Acme, watched: Settings) -> None:
    acme.execute("INSERT INTO receiver.worker_deaths VALUES (now() - interval '14 minutes', 500)")
    watch.check(acme.engine, watched, ())
    assert open_kinds(acme) == ["worker-died"]
    assert "died or hung once while it processed 500 deliveries" in acme.value("SELECT text FROM receiver.issues")
    acme.execute("UPDATE receiver.worker_deaths SET at = at - interval '1 minute'")
    watch.check(acme.engine, watched, ())
    assert open_kinds(acme) == []


OUTAGE = "messages OpenCard receiver: storage-failing {}"
FAILED = 'connection to server at "db" failed: Connection refused'


@pytest.fixture
def _short_outages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_module, "OUTAGE_SECONDS", 0)


@pytest.mark.usefixtures("_short_outages", "redis")
def test_an_outage_of_postgresql_is_reported_while_it_lasts(acme: Acme, watched: Settings, web: AskedServer) -> None:
    targets = targets_of(watched)
    outages = [outage_module.StorageOutage(watched, targets) for _ in range(2)]
    for _ in range(3):
        for outage in outages:  # of two schedulers
            outage.failed(FAILED)
    assert web.asked == [OUTAGE.format("open")]

    since = outages[0].since
    for outage in outages:
        watch.check(acme.engine, watched, targets, outage)
    issue = acme.row("SELECT opened_at, state, text FROM receiver.issues")
    assert (issue["opened_at"], issue["state"]) == (since, "resolved")
    assert FAILED in issue["text"]
    assert send_due(acme.engine, targets, link="") == 0, "not within a minute of the message"
    acme.execute("UPDATE receiver.notifications SET due_at = due_at - interval '1 minute'")
    assert send_due(acme.engine, targets, link="") == 1
    assert web.asked == [OUTAGE.format("open"), OUTAGE.format("resolved")]
    outages[0].failed(FAILED)
    assert web.asked[2:] == [OUTAGE.format("open")], "the next outage is reported again"


@pytest.mark.usefixtures("_short_outages")
def test_a_message_about_an_outage_is_sent_until_taken(acme: Acme, watched: Settings, web: AskedServer) -> None:
    web.fails = True
    outage = outage_module.StorageOutage(watched, targets_of(watched))
    outage.failed(FAILED)
    web.fails = False
    outage.failed(FAILED)
    assert web.asked == [OUTAGE.format("open")] * 2
    watch.check(acme.engine, watched, targets_of(watched), outage)
    assert acme.value("SELECT sent_state FROM receiver.notifications") == "open"


@pytest.mark.usefixtures("_short_outages")
def test_outage_is_reported_once_though_redis_is_away(watched: Settings, web: AskedServer) -> None:
    outage = outage_module.StorageOutage(replace(watched, redis_url=unreachable_redis()), targets_of(watched))
    for _ in range(3):
        outage.failed(FAILED)
    assert web.asked == [OUTAGE.format("open")]


def test_a_restart_of_postgresql_is_no_issue(acme: Acme, watched: Settings, web: AskedServer) -> None:
    outage = outage_module.StorageOutage(watched, targets_of(watched))
    outage.failed(FAILED)
    watch.check(acme.engine, watched, targets_of(watched), outage)
    assert web.asked == []
    assert acme.value("SELECT count(*) FROM receiver.issues") == 0


def test_one_scheduler_looks_at_a_time(acme: Acme, watched: Settings) -> None:
    acme.execute("UPDATE receiver.webhooks SET active = false")
    with acme.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": Lock.ISSUES})
        assert not watch.check(acme.engine, watched, ())
        assert open_kinds(acme) == []
    watch.check(acme.engine, watched, ())
    assert open_kinds(acme) == ["webhook-inactive"]


def test_a_storm_of_failures_of_one_cause_is_one_issue(acme: Acme, watched: Settings) -> None:
    for _ in range(5):
        acme.apply("card_holder.created", b"{}")
    watch.check(acme.engine, watched, ())
    with acme.engine.connect() as connection:
        (stored,) = list_issues(connection, states=[State.OPEN], limit=10)
    assert (stored.issue.kind, stored.issue.count) == ("deliveries-dead", 5)
    assert stored.issue.organization_reference_id == "acme"
