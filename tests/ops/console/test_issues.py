"""Issues in the console: seen by everybody, answered by operators."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from receiver.ops.issues import watch
from tests.support.console_pages import EVENT, WRONG, ids, links, stored
from tests.support.factories import snapshot
from tests.support.service_states import miss_all_in_the_log

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations
    from tests.support.visitor import Visitor


@pytest.fixture
def issue(acme: Acme, settings: Settings) -> str:
    """Return the address of the issue of two dead deliveries."""
    for _ in range(2):
        acme.apply("card_holder.created", b"{}")
    watch.check(acme.engine, replace(settings, reconcile_interval=0), ())
    number = acme.value("SELECT max(id) FROM receiver.issues")
    return f"/ops/issues/{number}"


def test_without_issues_the_page_says_so(viewer: Visitor) -> None:
    assert "No issues." in viewer.get("/ops/issues/").text
    assert "No resolved issues." in viewer.get("/ops/issues/?show=resolved").text
    assert viewer.get("/ops/issues/?show=secret").status_code == 404
    assert viewer.get("/ops/issues/4711").status_code == 404


def test_a_viewer_sees_an_issue_and_learns_whom_to_ask(viewer: Visitor, issue: str) -> None:
    assert f'href="{issue}"' in viewer.get("/ops/issues/").text
    page = viewer.get(issue).text
    assert "2 dead deliveries of card_holder.created: card_holder: missing" in page
    assert "Only users with the role operator" in page
    assert viewer.post(f"{issue}/acknowledge", form="/ops/", note="mine").status_code == 403


def test_issue_leads_to_exactly_its_deliveries(acme: Acme, viewer: Visitor, issue: str, settings: Settings) -> None:
    of_issue = stored(acme)
    acme.apply(EVENT, WRONG)  # dead, too, by another error
    acme.execute("UPDATE receiver.webhooks SET active = false")
    watch.check(acme.engine, replace(settings, reconcile_interval=0), ())
    (link,) = [each for each in links(viewer.get(issue).text) if each.startswith("/ops/deliveries/?")]
    assert ids(viewer.get(link).text) == of_issue
    inactive = acme.value("SELECT id FROM receiver.issues WHERE kind = 'webhook-inactive'")
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    assert f"/ops/webhooks/{webhook}" in links(viewer.get(f"/ops/issues/{inactive}").text)


@pytest.mark.parametrize("version", ["2", None])
def test_an_unknown_event_leads_to_its_deliveries(
    acme: Acme, viewer: Visitor, settings: Settings, version: str | None
) -> None:
    event = "card.transaction.o'clock"
    for name, given in ((event, version), (event, "3"), ("card.transaction.teleported", version)):
        acme.deliver(name, snapshot("cleared"), headers={"X-Version": given})
    acme.process()
    watch.check(acme.engine, settings, ())
    subject = f'"{event}", ' + ("no version" if version is None else f"version '{version}'")
    number = acme.value("SELECT id FROM receiver.issues WHERE subject = :subject", subject=subject)
    (link,) = [each for each in links(viewer.get(f"/ops/issues/{number}").text) if each.startswith("/ops/deliveries/?")]
    assert ids(viewer.get(link).text) == stored(acme)[2:]


def test_an_unknown_version_leads_to_its_deliveries(acme: Acme, viewer: Visitor, settings: Settings) -> None:
    for version in ("2", "1"):
        acme.deliver(EVENT, snapshot("cleared", transaction=f"v{version}"), headers={"X-Version": version})
    acme.process()
    watch.check(acme.engine, settings, ())
    number = acme.value("SELECT id FROM receiver.issues WHERE kind = 'version-unknown'")
    (link,) = [each for each in links(viewer.get(f"/ops/issues/{number}").text) if each.startswith("/ops/deliveries/?")]
    assert ids(viewer.get(link).text) == stored(acme)[1:]


def test_unconfirmed_deliveries_are_one_click_away(acme: Acme, viewer: Visitor, settings: Settings) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    miss_all_in_the_log(acme.engine, "acme")
    unconfirmed = stored(acme)
    acme.apply(EVENT, snapshot("cleared", transaction="t-2"))  # since then
    watch.check(acme.engine, settings, ())
    number = acme.value("SELECT id FROM receiver.issues WHERE kind = 'deliveries-unconfirmed'")
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    for page in (f"/ops/issues/{number}", f"/ops/webhooks/{webhook}", "/ops/"):
        (link,) = {each for each in links(viewer.get(page).text) if "status=unconfirmed" in each}
        assert ids(viewer.get(link).text) == unconfirmed, page
    assert "Status: <strong>unconfirmed</strong>" in viewer.get(link).text


def test_an_operator_acknowledges_with_a_note(acme: Acme, operator: Visitor, issue: str) -> None:
    answer = operator.post(f"{issue}/acknowledge", form=issue, note="ticket 7", until="2999-01-01", until_it_grows="y")
    assert (answer.status_code, answer.location) == (302, issue)
    row = acme.row("SELECT state, owner, note, accepted_count, accepted_until::text AS until FROM receiver.issues")
    assert row == {
        "state": "acknowledged",
        "owner": "olga",
        "note": "ticket 7",
        "accepted_count": 2,
        "until": "2999-01-01 00:00:00+00",
    }
    page = operator.get(issue).text
    assert "ticket 7" in page
    assert "Reopens if the count exceeds" in page
    assert "card_holder.created" in operator.get("/ops/").text.partition("1 acknowledged")[2]


def test_issue_offers_buttons_first_then_its_command(acme: Acme, operator: Visitor, issue: str) -> None:
    page = operator.get(issue).text
    assert f"/ops/deliveries/{max(stored(acme))}" in links(page), "an example"
    sentence, button, command = (
        page.index(each) for each in ("card_holder: missing</p>", ">Replay …</a>", "receiver replay --status dead")
    )
    assert sentence < button < command
    (replay,) = [each for each in links(page) if each.startswith("/ops/replays/new?")]
    assert "Replay 2 deliveries" in operator.get(replay).text
    assert "receiver replay" not in operator.get("/ops/").text


def test_refused_deliveries_lead_to_the_remedy_of_their_command(
    acme: Acme, operator: Visitor, settings: Settings
) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    acme.execute(
        "INSERT INTO receiver.refused_deliveries (webhook_id, reason, minute, number, last_at)"
        " SELECT id, 'custom-missing', now(), 3, now() FROM receiver.webhooks"
    )

    def actions() -> list[str]:
        watch.check(acme.engine, settings, ())
        number = acme.value("SELECT id FROM receiver.issues WHERE kind = 'deliveries-refused'")
        return [each for each in links(operator.get(f"/ops/issues/{number}").text) if f"/webhooks/{webhook}" in each]

    assert f"/ops/webhooks/{webhook}/rotate-secret" not in actions(), "the requests may be forged"
    acme.execute(
        "INSERT INTO receiver.delivery_log (webhook_id, identity, event, response_status, attempted_at, item)"
        " SELECT id, '', 'card_holder.created', 401, now(), '' FROM receiver.webhooks"
    )
    assert f"/ops/webhooks/{webhook}/rotate-secret" in actions()


def test_issue_of_a_webhook_leads_to_what_ends_it(acme: Acme, operator: Visitor, settings: Settings) -> None:
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    acme.execute("UPDATE receiver.webhooks SET active = false")
    watch.check(acme.engine, settings, ())
    number = acme.value("SELECT id FROM receiver.issues WHERE kind = 'webhook-inactive'")
    assert f"/ops/webhooks/{webhook}/register" in links(operator.get(f"/ops/issues/{number}").text)


def test_issue_leads_to_the_webhooks_of_its_organization(
    organizations: Organizations, viewer: Visitor, settings: Settings
) -> None:
    organizations.adopt("acme")
    globex = organizations.adopt("globex & co")
    globex.execute("UPDATE receiver.webhooks SET active = false WHERE organization_reference_id = 'globex & co'")
    watch.check(globex.engine, replace(settings, reconcile_interval=0), ())
    number = globex.value("SELECT min(id) FROM receiver.issues")
    (link,) = [each for each in links(viewer.get(f"/ops/issues/{number}").text) if "/webhooks/?" in each]
    page = viewer.get(link).text
    assert "Organization: <strong>globex &amp; co</strong>" in page
    assert len([each for each in links(page) if re.fullmatch(r"/ops/webhooks/[0-9]+", each)]) == 1
    assert "No webhooks of this organization" in viewer.get("/ops/webhooks/?organization=nobody").text


def test_an_operator_resolves_an_issue(acme: Acme, operator: Visitor, issue: str) -> None:
    assert operator.post(f"{issue}/resolve", form=issue, note="test account").status_code == 302
    assert acme.value("SELECT state FROM receiver.issues") == "resolved"
    assert "No issues." in operator.get("/ops/issues/").text
    assert f'href="{issue}"' in operator.get("/ops/issues/?show=resolved").text
    assert operator.post(f"{issue}/resolve", form="/ops/", note="again").status_code == 409


@pytest.mark.parametrize(
    ("fields", "said"), [({"note": " "}, "Enter a note"), ({"until": "2020-01-01"}, "a day in the future")]
)
def test_a_wrong_answer_changes_nothing(
    acme: Acme, operator: Visitor, issue: str, fields: dict[str, str], said: str
) -> None:
    answer = operator.post(f"{issue}/acknowledge", form=issue, **{"note": "x", **fields})
    assert answer.status_code == 400
    assert said in answer.text
    assert acme.value("SELECT state FROM receiver.issues") == "open"
