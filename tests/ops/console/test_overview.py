from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.ops.console.webhooks import state_of
from tests.ops.console.test_deliveries import EVENT, WRONG, ids, links, stored
from tests.support.service_states import add_run
from tests.support.stored import store

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations
    from tests.support.visitor import Visitor


def test_an_empty_service_is_shown_without_complaint(viewer: Visitor) -> None:
    for page in ("/ops/", "/ops/deliveries/", "/ops/replays/", "/ops/webhooks/", "/ops/reconcile/"):
        assert viewer.get(page).status_code == 200
    assert "No webhooks registered" in viewer.get("/ops/").text


def test_what_failed_is_grouped_and_leads_to_its_deliveries(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    acme.apply(EVENT, WRONG.replace(b"t-1", b"t-2"))
    page = viewer.get("/ops/").text
    assert "2 dead deliveries" in page
    (group,) = [link for link in links(page) if "status=dead" in link]
    assert ids(viewer.get(group).text) == stored(acme)


def test_deliveries_of_the_hour_are_a_bar(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    page = viewer.get("/ops/").text
    assert "1 delivery in 24 hours" in page
    assert "UTC: 1 pushed</title>" in page


def test_incomplete_organizations_are_first(organizations: Organizations, viewer: Visitor) -> None:
    for reference in ("acme", "beta", "globex"):
        organizations.adopt(reference)
    add_run(organizations.engine, "globex", unrecoverable=3)
    page = viewer.get("/ops/").text
    assert page.index('<th scope="row">globex') < page.index('<th scope="row">acme')
    assert "3 lost events cannot be recovered" in page
    assert re.findall(r'"Last run">(.*?)<', page) == ["done", "\N{EN DASH}", "\N{EN DASH}"]


def test_each_webhook_shows_its_status(acme: Acme, viewer: Visitor) -> None:
    acme.execute("UPDATE receiver.webhooks SET active = false")
    acme.take(EVENT, WRONG)
    add_run(acme.engine, "acme", unconfirmed=2, minutes_ago=3)
    page = viewer.get("/ops/webhooks/").text
    assert "not active" in page
    assert "2 stored deliveries not in OpenCard&#39;s log" in page
    assert "3 min ago" in page
    assert acme.registration.secret not in page
    assert acme.path.rpartition("/")[2] not in page


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
    assert page.index('<td data-label="Organization">beta') < page.index('<td data-label="Organization">acme')
    assert "OpenCard answered 503" in page
    assert "OpenCard answered 503" not in viewer.get("/ops/reconcile/?organization=beta").text


@pytest.mark.parametrize(("number", "limited"), [(5_004, False), (20_004, True)])
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
    shown = re.findall(r'<td class="numeric" data-label="Number">([\d,]+)</td>', page)
    status = CliRunner(env=environment).invoke(main, ["status", "--json"])
    counted = [group["number"] for group in json.loads(status.stdout)["failures"]]
    assert [int(each.replace(",", "")) for each in shown] == counted
    assert sum(counted) == min(number, 20_000)
    assert ("Of the newest 20,000" in page) is limited
    screen = CliRunner(env=environment).invoke(main, ["status"]).stdout
    assert (f"of the newest 20000 of {number}" in screen) is limited
