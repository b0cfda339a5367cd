from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.support.console_pages import EVENT, WRONG, ids, links, stored
from tests.support.factories import snapshot
from tests.support.replay_steps import fail_with

if TYPE_CHECKING:
    from tests.conftest import Acme
    from tests.support.visitor import Visitor


def let_die(acme: Acme, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let so many deliveries end as dead, for a cause that is fixed then."""
    fail_with(monkeypatch, RuntimeError("a disk is full"))
    for each in range(number):
        acme.deliver_ok(EVENT, snapshot("cleared", transaction=f"t-{each}"))
    acme.execute("UPDATE receiver.queue SET attempts = 7")
    acme.process()
    fail_with(monkeypatch, None)
    assert acme.statuses() == ["dead"] * number


def test_replay_of_one_delivery_records_reason_and_user(
    acme: Acme, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_die(acme, monkeypatch, 1)
    (delivery,) = stored(acme)
    path = f"/ops/deliveries/{delivery}"
    answer = operator.post(f"{path}/replay", form=path, reason="there is room again")
    replay = acme.row("SELECT id, requested_by, reason, selected FROM receiver.replays")
    assert (answer.status_code, answer.location) == (302, f"/ops/replays/{replay.pop('id')}")
    assert replay == {"requested_by": "olga", "reason": "there is room again", "selected": 1}
    assert "0 of 1 processed" in operator.get(answer.location).text
    acme.process()
    page = operator.get(answer.location).text
    assert "1 of 1 processed" in page
    assert "there is room again" in page
    assert "there is room again" in operator.get("/ops/replays/").text
    assert "there is room again" in operator.get(path).text
    assert acme.statuses() == ["processed"]


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_without_a_reason_nothing_is_replayed(acme: Acme, operator: Visitor, reason: str) -> None:
    acme.apply(EVENT, WRONG)
    (delivery,) = stored(acme)
    path = f"/ops/deliveries/{delivery}"
    answer = operator.post(f"{path}/replay", form=path, reason=reason)
    assert answer.status_code == 400
    bulk = operator.post("/ops/replays/new?status=dead", form="/ops/replays/new?status=dead", reason=reason)
    assert bulk.status_code == 400
    assert acme.value("SELECT count(*) FROM receiver.replays") == 0


def test_many_deliveries_are_replayed_by_filter_after_preview(
    acme: Acme, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_die(acme, monkeypatch, 3)
    acme.apply(EVENT, WRONG)
    listed = operator.get("/ops/deliveries/?status=dead&error=disk+is+full").text
    (preview,) = [link for link in links(listed) if link.startswith("/ops/replays/new")]
    shown = operator.get(preview).text
    assert "Replay 3 deliveries" in shown
    assert "RuntimeError: a disk is full" in shown
    answer = operator.post(preview, form=preview, reason="there is room again")
    acme.process()
    assert "3 of 3 processed" in operator.get(answer.location).text
    assert acme.statuses() == ["processed", "processed", "processed", "dead"]


def test_matching_deliveries_are_resolved_without_a_replay(acme: Acme, operator: Visitor) -> None:
    for _ in range(2):
        acme.apply(EVENT, WRONG)
    acme.apply("card_holder.created", b"{}")
    form = f"/ops/replays/new?status=dead&event={EVENT}"
    (address,) = re.findall(r'formaction="([^"]+)">Resolve all', operator.get(form).text)
    address = unescape(address)
    assert operator.post(address, form=form, reason=" ").location == form
    assert acme.value("SELECT count(*) FROM receiver.acknowledged_gaps") == 0
    answer = operator.post(address, form=form, reason="a test by OpenCard")
    assert "Resolved 2 deliveries" in operator.get(answer.location).text
    assert acme.statuses() == ["dead"] * 3
    resolved = acme.rows("SELECT id, acknowledged_by, reason FROM receiver.acknowledged_gaps ORDER BY id DESC")
    assert [row["id"] for row in resolved] == stored(acme)[1:]
    assert {(row["acknowledged_by"], row["reason"]) for row in resolved} == {("olga", "a test by OpenCard")}
    act = acme.row("SELECT action, object, outcome FROM receiver.audit WHERE reason = 'a test by OpenCard'")
    assert act == {"action": "deliveries resolve", "object": f"--status dead --event {EVENT}", "outcome": "done"}
    assert operator.post("/ops/replays/resolve", form=form, reason="all").status_code == 400
    assert "Resolve all" not in operator.get("/ops/replays/new?status=processed").text


def test_a_few_can_be_tried_first(acme: Acme, operator: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, 3)
    form = "/ops/replays/new?status=dead"
    assert operator.post(form, form=form, reason="there is room again", limit="0").status_code == 400
    answer = operator.post(form, form=form, reason="there is room again", limit="1")
    acme.process()
    assert "1 of 1 processed" in operator.get(answer.location).text
    assert acme.statuses() == ["dead", "dead", "processed"]


def test_repeated_failures_are_shown_by_their_cause(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    form = "/ops/replays/new?status=dead"
    answer = operator.post(form, form=form, reason="once more")
    acme.process()
    page = operator.get(answer.location).text
    assert "0 of 1 processed, 1 failed" in page
    (link,) = [each for each in links(page) if "accounting_amount" in each]
    assert ids(operator.get(link).text) == stored(acme)
    assert '<span class="status status-dead">all failed</span>' in page
    assert 'aria-label="0 processed and 1 failed of 1"' in page
    assert '<rect class="fill-processed" width="0"' in page
    assert '<rect class="fill-failed" x="0" width="1"' in page
    assert '<span class="status status-dead">all failed</span>' in operator.get("/ops/replays/").text


def test_a_replay_says_whether_it_succeeded(
    acme: Acme, operator: Visitor, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_die(acme, monkeypatch, 1)
    form = "/ops/replays/new?status=dead"
    operator.post(form, form=form, reason="fixed")
    acme.process()
    acme.deliver_ok(EVENT, WRONG)
    acme.process()
    form = "/ops/replays/new?error=*"
    acme.execute("UPDATE receiver.outcomes SET status = 'dead', error = 'once' WHERE status = 'processed'")
    operator.post(form, form=form, reason="both")
    acme.process()
    page = operator.get("/ops/replays/").text
    assert re.findall(r'<span class="status (status-\w+)">([\w ]+)</span>', page) == [
        ("status-failed", "some failed"),
        ("status-processed", "ended"),
    ]
    lines = CliRunner(env=environment).invoke(main, ["replay", "--list"]).stdout.splitlines()
    assert ["some failed" in line for line in lines[1:]] == [True, False]


@pytest.mark.parametrize("query", ["", "?status=", "?before=7", "?since=nonsense", "?status=nonsense"])
def test_everything_is_never_replayed(operator: Visitor, query: str) -> None:
    assert operator.get(f"/ops/replays/new{query}").status_code == 400
    assert operator.post(f"/ops/replays/new{query}", form="/ops/", reason="all").status_code == 400


def test_a_replay_is_cancelled_and_what_waits_keeps_its_status(
    acme: Acme, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_die(acme, monkeypatch, 2)
    form = "/ops/replays/new?status=dead"
    path = operator.post(form, form=form, reason="too early").location
    cancelled = operator.post(f"{path}/cancel", form=path)
    assert cancelled.location == path
    assert "Cancelled" in operator.get(path).text
    acme.process()
    assert acme.statuses() == ["dead", "dead"]
    page = operator.get(path).text
    assert ">cancelled<" in page
    assert "olga" in page
    again = operator.post(f"{path}/cancel", form="/ops/")
    assert again.status_code == 302 or "ended" in again.text


def test_a_viewer_sees_replays_and_has_no_button(
    acme: Acme, viewer: Visitor, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_die(acme, monkeypatch, 1)
    form = "/ops/replays/new?status=dead"
    path = operator.post(form, form=form, reason="there is room again").location
    (delivery,) = stored(acme)
    for page in ("/ops/", "/ops/deliveries/?status=dead", f"/ops/deliveries/{delivery}", "/ops/replays/", path, form):
        shown = viewer.get(page)
        assert shown.status_code == 200, page
        assert shown.text.count("<button") - shown.text.count(">Show</button>") == 1, page  # signing out
        assert page == form or "/replays/new" not in shown.text
    assert viewer.post(f"{path}/cancel", form="/ops/").status_code == 403
    assert viewer.post(form, form="/ops/", reason="no").status_code == 403
    assert viewer.post(f"/ops/deliveries/{delivery}/replay", form="/ops/", reason="no").status_code == 403


def test_unknown_replay_is_not_found(operator: Visitor) -> None:
    answer = operator.get("/ops/replays/1")
    assert (answer.status_code, "There is no replay 1." in answer.text) == (404, True)
    assert 'href="/ops/replays/">Back to the list' in answer.text
    assert operator.get("/ops/replays/99999999999999999999").status_code == 404
    assert operator.post("/ops/replays/1/cancel", form="/ops/").status_code == 409


def test_too_many_matches_are_left_to_the_command_line(
    acme: Acme, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_die(acme, monkeypatch, 1)
    monkeypatch.setattr("receiver.ops.console.replays.PREVIEW_SECONDS", -1.0)
    form = "/ops/replays/new?status=dead"
    assert "Too many for a page" in operator.get(form).text
    assert operator.post(form, form=form, reason="all of it").status_code == 400
    assert acme.value("SELECT count(*) FROM receiver.replays") == 0


def test_a_dead_delivery_is_resolved_without_a_replay(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    (delivery,) = stored(acme)
    path = f"/ops/deliveries/{delivery}"
    assert operator.post(f"{path}/resolve", form=path).status_code == 400
    assert operator.post(f"{path}/resolve", form=path, reason="a\0test").status_code == 400
    answer = operator.post(f"{path}/resolve", form=path, reason="a test of theirs")
    page = operator.get(answer.location).text
    assert "Resolved: it keeps its status" in page
    assert "by olga: a test of theirs" in page
    assert "Resolve without a replay" not in page
    assert "Resolve without a replay" not in viewer.get(path).text
    assert acme.statuses() == ["dead"]
    recorded = acme.rows("SELECT outcome, reason FROM receiver.audit WHERE action = 'deliveries resolve' ORDER BY id")
    assert [(row["outcome"], row["reason"]) for row in recorded] == [
        ("refused", None),
        ("done", "a test of theirs"),
    ]
