from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from receiver.cli import main
from receiver.locks import Lock
from receiver.ops.console.webhooks import state_of
from receiver.ops.deploys import PACKAGE, note_version
from receiver.ops.findings import Finding, FindingKind
from receiver.ops.issues import watch
from receiver.ops.issues.store import compare
from receiver.ops.resolving import resolve_deliveries
from receiver.ops.rollup import roll_up_once
from tests.support.console_pages import EVENT, WRONG, ids, links, stored
from tests.support.factories import snapshot
from tests.support.replay_steps import fail_with, replay
from tests.support.service_states import add_run
from tests.support.stored import store

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations
    from tests.support.visitor import Visitor


def test_an_empty_service_is_shown_without_complaint(viewer: Visitor) -> None:
    for page in ("/ops/", "/ops/deliveries/", "/ops/replays/", "/ops/webhooks/", "/ops/reconcile/"):
        assert viewer.get(page).status_code == 200
    assert "No webhooks registered" in viewer.get("/ops/").text


def test_failures_are_grouped_and_lead_to_their_deliveries(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    acme.apply(EVENT, WRONG.replace(b"t-1", b"t-2"))
    page = viewer.get("/ops/").text
    assert "2 dead deliveries" in page
    (group,) = [link for link in links(page) if "error=" in link]
    assert ids(viewer.get(group).text) == stored(acme)


def test_each_figure_leads_to_the_deliveries_it_counts(
    acme: Acme, viewer: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"dead": WRONG, "quarantined": snapshot("cleared", organization={"reference_id": "globex"})}
    for status, content in held.items():
        for _ in range(2):
            acme.apply(EVENT, content)
        assert acme.statuses()[-2:] == [status] * 2
    for _ in range(2):
        acme.apply("event.of.tomorrow", snapshot("cleared"))
    dead, _, quarantined, _, ignored, _ = reversed(stored(acme))
    resolve_deliveries(acme.engine, (dead, quarantined, ignored), by="kim@ops", reason="a test by OpenCard")
    fail_with(monkeypatch, OSError("disk full"))
    acme.apply(EVENT, snapshot("cleared"))
    acme.deliver_ok(EVENT, snapshot("cleared", transaction="t-2"))
    page = viewer.get("/ops/").text
    boxes = re.findall(r'<a class="figure-box" href="([^"]+)">\s*<div[^>]*>([^<]+)</div>\s*<div>([^<]+)</div>', page)
    shown = {
        words: (int(value), len(ids(viewer.get(unescape(link)).text)))
        for link, value, words in boxes
        if words in {"backlog", *held, "ignored"}
    }
    assert shown == {"backlog": (2, 2), "dead": (1, 1), "quarantined": (1, 1), "ignored": (1, 1)}
    for link in links(page):
        if "error=" in link:
            assert len(ids(viewer.get(link).text)) == 1, link


def test_readers_of_the_feed_are_shown_with_their_lag(acme: Acme, viewer: Visitor) -> None:
    assert "Readers of the feed" not in viewer.get("/ops/").text
    for number in range(2):
        acme.apply("card.transaction.cleared", snapshot("cleared", transaction=f"transaction-{number}"))
    acme.execute("SELECT ems.commit_position('bookkeeping', (SELECT min(position) FROM ems.events))")
    acme.execute("INSERT INTO ems.consumers (name, position) VALUES ('archive', 0)")
    page = viewer.get("/ops/").text
    _, _, readers = page.partition("<dt>Readers of the feed</dt>")
    assert readers.startswith("<dd>archive: 2 events behind; bookkeeping: 1 event behind, last seen <time")


@pytest.mark.parametrize("name", ["24h", "7d"])
def test_deliveries_of_the_hour_are_a_bar(acme: Acme, viewer: Visitor, name: str) -> None:
    acme.apply(EVENT, WRONG)
    page = viewer.get(f"/ops/?range={name}").text
    assert "1 failed</span>" in page
    assert "UTC: 1 failed</title>" in page


def test_a_range_that_is_none_is_no_page(viewer: Visitor) -> None:
    assert viewer.get("/ops/?range=1h").status_code == 200
    assert viewer.get("/ops/?range=2h").status_code == 404


def test_the_banner_links_to_the_open_issues(organizations: Organizations, viewer: Visitor, settings: Settings) -> None:
    assert "No open issues</h2>" in viewer.get("/ops/").text
    acme = organizations.adopt("acme")
    acme.apply(EVENT, WRONG)
    watch.check(acme.engine, settings, ())
    page = viewer.get("/ops/").text
    assert "No open issues" not in page
    banner = page.partition('id="attention"')[2].partition("</section>")[0]
    (issue,) = re.findall(r'<li><a href="(/ops/issues/[0-9]+)">1 dead delivery', banner)
    assert "accounting_amount" in viewer.get(issue).text


def test_hours_of_an_organization_are_a_strip(organizations: Organizations, viewer: Visitor) -> None:
    organizations.adopt("acme").apply(EVENT, WRONG)
    organizations.adopt("beta")
    add_run(organizations.engine, "beta")
    roll_up_once(organizations.engine)
    page = viewer.get("/ops/").text
    assert 'aria-label="Hours of acme: 0 of 24 checked, 0 recovered, 1 not applied, 0 unrecoverable"' in page
    assert 'aria-label="Hours of beta: 24 of 24 checked, 0 recovered, 0 not applied, 0 unrecoverable"' in page


def test_incomplete_organizations_are_first(organizations: Organizations, viewer: Visitor) -> None:
    for reference in ("acme", "beta", "globex"):
        organizations.adopt(reference)
    add_run(organizations.engine, "globex", unrecoverable=3)
    page = viewer.get("/ops/").text
    assert page.index(">globex</a></th>") < page.index(">acme</a></th>")
    assert "3 lost events cannot be recovered" in page
    assert re.findall(r'"Last run">(.*?)<', page) == ["finished", "none yet", "none yet"]


def test_each_webhook_shows_its_status(acme: Acme, viewer: Visitor) -> None:
    acme.execute("UPDATE receiver.webhooks SET active = false")
    acme.deliver_ok(EVENT, WRONG)
    add_run(acme.engine, "acme", unconfirmed=2, minutes_ago=3)
    page = viewer.get("/ops/webhooks/").text
    assert "not active" in page
    assert "2 stored deliveries not in OpenCard&#39;s log" in page
    assert "3 min ago" in page
    assert acme.registration.secret not in page
    assert acme.path.rpartition("/")[2] not in page


def test_a_webhook_has_a_page_of_its_own(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    acme.execute(
        "UPDATE receiver.webhooks SET previous_secret_expires_at = now() + interval '1 hour', acknowledged_at = now()"
    )
    acme.execute(
        "INSERT INTO receiver.organizations (organization_id, organization_reference_id, unavailable_events)"
        ' SELECT organization_id, \'acme\', \'{"aland_index": {"reason": "not in the billing"}}\''
        " FROM receiver.webhooks"
    )
    acme.execute(
        "INSERT INTO receiver.refused_deliveries (webhook_id, reason, minute, number, last_at) "
        "SELECT id, 'signature-mismatch', date_trunc('minute', now()), 2503, now() FROM receiver.webhooks"
    )
    add_run(acme.engine, "acme", unconfirmed=2)
    (address,) = {link for link in links(operator.get("/ops/webhooks/").text) if re.search(r"/webhooks/\d", link)}
    page = operator.get(address).text
    for words in (
        acme.path.rpartition("/")[2],
        "not aland_index: not in the billing",
        "signature-mismatch",
        "2,503",
        "valid until",
        "2 unconfirmed",
        "receiver webhooks rotate-secret",
    ):
        assert words in page, words
    assert acme.registration.secret not in page
    assert acme.path.rpartition("/")[2] not in viewer.get(address).text
    assert operator.get("/ops/webhooks/999").status_code == 404


def test_the_state_of_a_webhook_is_a_word() -> None:
    assert [state_of(enabled=True, active=active) for active in (True, False, None)] == [
        "active",
        "not active",
        "unknown",
    ]
    assert state_of(enabled=False, active=True) == "off"


def test_runs_are_listed_newest_first_and_by_organization(organizations: Organizations, viewer: Visitor) -> None:
    organizations.adopt("acme")
    organizations.adopt("beta")
    add_run(organizations.engine, "acme", error="OpenCard answered 503")
    add_run(organizations.engine, "beta", unrecoverable=1)
    page = viewer.get("/ops/reconcile/").text
    assert page.index("<td>beta") < page.index("<td>acme")
    assert "OpenCard answered 503" in page
    assert "OpenCard answered 503" not in viewer.get("/ops/reconcile/?organization=beta").text


def test_runs_that_found_nothing_are_one_line(organizations: Organizations, viewer: Visitor) -> None:
    organizations.adopt("acme")
    for minutes, unconfirmed in ((9, 0), (8, 0), (7, 2), (6, 0), (5, 0), (4, 0)):
        add_run(organizations.engine, "acme", minutes_ago=minutes, unconfirmed=unconfirmed)
    page = viewer.get("/ops/reconcile/").text
    assert [int(number) for number in re.findall(r"in sync: ([0-9]+) runs", page)] == [3, 2]
    assert page.count("differences remain") == 1
    assert viewer.get("/ops/reconcile/?each=1").text.count('data-label="Matched"') == 6


@pytest.mark.parametrize(("number", "limited"), [(4_998, False), (5_004, True)])
def test_counts_by_cause_are_those_of_the_command_line(
    acme: Acme,
    viewer: Visitor,
    environment: dict[str, str],
    number: int,
    limited: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    for cause in "abc":
        store(acme.engine, event=EVENT, status="dead", error=f"cause {cause}", number=number // 3)
    page = viewer.get("/ops/").text
    shown = re.findall(r'<td class="numeric" data-label="Deliveries">([\d,]+)</td>', page)
    status = CliRunner(env=environment).invoke(main, ["status", "--json"])
    counted = [group["number"] for group in json.loads(status.stdout)["failures"]]
    assert [int(each.replace(",", "")) for each in shown] == counted
    assert sum(counted) == min(number, 5_000)
    assert ("Of the newest 5,000" in page) is limited
    screen = CliRunner(env=environment).invoke(main, ["status"]).stdout
    assert (f"of the newest 5000 of {number}" in screen) is limited


def test_deploys_are_marked_in_the_chart(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    for running in ("1.0.0", "1.0.0", "1.1.0", "1.0.0"):
        assert note_version(acme.engine, running)
    page = viewer.get("/ops/").text
    marked = re.findall(r'<line class="mark mark-deploy".*?<title>.*? UTC: version ([0-9.]+)</title>', page)
    assert marked == ["1.0.0", "1.1.0", "1.0.0"]
    (words,) = re.findall(r"<div>(Solid lines: .*?)</div>", page)
    assert re.findall(r"version ([0-9.]+) at", words) == marked
    acme.execute("UPDATE receiver.deploys SET at = now() - interval '25 hours'")
    assert "mark-deploy" not in viewer.get("/ops/").text


def test_one_scheduler_at_a_time_notes_the_version(acme: Acme) -> None:
    with acme.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": Lock.DEPLOYS})
        assert not note_version(acme.engine)
        assert acme.rows("SELECT version FROM receiver.deploys") == []
    assert note_version(acme.engine)


def test_each_release_is_a_deploy_whatever_the_version(acme: Acme, environment: dict[str, str]) -> None:
    running = version(PACKAGE)
    for _ in range(2):
        assert CliRunner(env=environment).invoke(main, ["db", "upgrade"]).exit_code == 0
        assert note_version(acme.engine)
    assert acme.rows("SELECT version FROM receiver.deploys ORDER BY id") == [{"version": running}] * 2


def test_an_outage_is_shaded_in_the_chart(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    now = acme.value("SELECT now()")
    began, ended = now - timedelta(hours=5), now - timedelta(hours=2)
    with acme.engine.begin() as connection:
        compare(connection, [Finding(FindingKind.STORAGE, "down", "PostgreSQL", since=began)], at=now)
        compare(connection, [], at=ended)
    page = viewer.get("/ops/").text
    ((begin, width),) = re.findall(r'<rect class="outage" x="([0-9.]+)" y="0" width="([0-9.]+)"', page)
    assert 18 * 10 <= float(begin) <= 20 * 10  # an hour is 10 wide, and the last of 24 is not over yet
    assert float(width) == pytest.approx(30, abs=0.5)
    assert f"outages of the database: {began:%m-%d %H:%M} to {ended:%m-%d %H:%M}" in page
    acme.execute("UPDATE receiver.issues SET resolved_at = now() - interval '25 hours'")
    assert 'class="outage"' not in viewer.get("/ops/").text


def test_replays_are_marked_in_the_chart(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    for _ in range(2):
        replay(acme, tuple(stored(acme)))
    old, new = (row["id"] for row in acme.rows("SELECT id FROM receiver.replays ORDER BY id"))
    acme.execute("UPDATE receiver.replays SET created_at = now() - interval '2 days' WHERE id = :id", id=old)
    roll_up_once(acme.engine)
    for name, marked in {"24h": [new], "7d": [old, new]}.items():
        page = viewer.get(f"/ops/?range={name}").text
        places = re.findall(r'<line class="mark" x1="([0-9.]+)".*?replay #(\d+)</title>', page)
        assert [int(number) for _, number in places] == marked
        width = float(re.findall(r'viewBox="0 0 (\d+) 100"', page)[0])
        shares = [float(x) / width for x, _ in places]
        assert shares == pytest.approx([5 / 7, 1][-len(marked) :], abs=0.05)
        assert [f"/ops/replays/{each}" in links(page) for each in (old, new)] == [old in marked, True]
