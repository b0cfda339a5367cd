"""A run: how far it reads, what it writes, what it proves, and what stops it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.errors import OperationRefused
from receiver.ops.decisions import accept_deliveries
from receiver.processing.drain import drain
from receiver.progress import Progress
from receiver.reconcile.runs import INTERRUPTED
from receiver.reconcile.session import BUSY, OPEN_PERIOD
from receiver.sandbox.provider import ApiFault, LogStyle
from tests.support.factories import card_holder, snapshot
from tests.support.lost_events import add_managed, lose
from tests.support.reconcile_steps import (
    DAY,
    HOUR,
    MINUTE,
    ago,
    append_log,
    attempts,
    count_log_requests,
    database_content,
    execute,
    reconcile,
    reconcile_and_process,
    reconciler,
    rows,
    store_delivery,
    value,
)
from tests.support.session_locks import ADVISORY

if TYPE_CHECKING:
    from receiver.reconcile.run import ReconcileOutcome
    from tests.support.world import World

CREATED = "card_holder.created"
CLEARED = "card.transaction.cleared"
SCOPE = "webhook-events-read"


def fill(
    world: World, number: int, *, status: int = 200, apart: timedelta = MINUTE, at: datetime | None = None
) -> None:
    """Write the log of many card holders, all of them stored, the latest one at *at*."""
    latest = at or ago(HOUR)
    for count in range(number):
        when = latest - (number - 1 - count) * apart
        payload = card_holder(f"employee-{count}")
        append_log(world, attempts(CREATED, payload, status, at=when))
        store_delivery(world, CREATED, payload, at=when)


def latest_run(world: World) -> dict[str, Any]:
    return rows(world, "SELECT * FROM receiver.reconcile_runs ORDER BY id DESC LIMIT 1")[0]


def test_run_asks_for_one_scope_and_stores_a_row(acme: World) -> None:
    before = datetime.now(UTC)
    append_log(acme, attempts(CREATED, card_holder(), 503, at=ago(MINUTE)))
    outcome = reconcile(acme)
    assert acme.provider.requests.scopes_asked() == {SCOPE}
    assert acme.provider.requests.scopes_used() == {SCOPE}
    run = latest_run(acme)
    assert (run["webhook_id"], run["since"], run["error"]) == (outcome.webhook_id, None, None)
    counts = ("log_entries", "matched", "recovered", "unconfirmed", "unrecoverable")
    assert [run[name] for name in counts] == [getattr(outcome, name) for name in counts] == [1, 0, 1, 0, 0]
    assert before - timedelta(seconds=5) < run["started_at"] == run["checked_until"] == outcome.checked_until
    assert run["ended_at"] >= run["started_at"]


@pytest.mark.parametrize("order", ["newest-first", "oldest-first"])
def test_next_run_reads_only_the_new_end_of_the_log(acme: World, order: Any) -> None:
    acme.provider.behaviour.log_style = LogStyle(order=order)
    fill(acme, 150, apart=3 * MINUTE, at=ago(2 * HOUR))
    first = reconcile(acme)
    assert (first.log_entries, first.matched) == (150, 150)
    acme.provider.requests.clear()
    append_log(acme, attempts(CREATED, card_holder("new"), 503, at=ago(MINUTE)))
    second = reconcile(acme)
    assert (second.recovered, count_log_requests(acme) <= 5) == (1, True)
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == 151
    assert second.checked_until == latest_run(acme)["started_at"] > (first.checked_until or ago(DAY))


def test_runs_overlap_by_more_than_the_grace(acme: World) -> None:
    reconcile(acme)
    reconcile(acme, grace=20 * MINUTE)
    first, second = rows(acme, "SELECT * FROM receiver.reconcile_runs ORDER BY id")
    assert first["checked_until"] - second["since"] > 20 * MINUTE + 5 * MINUTE


def test_look_back_finds_entries_that_appear_late(acme: World) -> None:
    fill(acme, 40, apart=HOUR)
    reconcile(acme)
    late = acme.provider.state.log_of(acme.registered().id)  # into the middle of the log, by its time
    append_log(acme, attempts(CREATED, card_holder("late"), 503, at=ago(20 * HOUR)))
    assert len(late) == 40
    assert reconcile(acme, since=ago(7 * DAY)).recovered == 1


def test_window_with_a_gap_keeps_checked_until(acme: World) -> None:
    append_log(acme, attempts(CREATED, card_holder("old"), 503, at=ago(30 * DAY)))
    append_log(
        acme,
        *(attempts(CREATED, card_holder(f"employee-{n}"), 503, at=ago(60 * MINUTE - n * MINUTE)) for n in range(40)),
    )
    outcome = reconcile(acme, since=ago(2 * HOUR))
    assert (outcome.recovered >= 40, outcome.checked_until, latest_run(acme)["checked_until"]) == (True, None, None)
    whole = reconcile(acme)
    assert whole.checked_until is not None
    assert latest_run(acme)["checked_until"] == whole.checked_until
    narrow = reconcile(acme, since=ago(timedelta()))
    assert (narrow.checked_until, latest_run(acme)["checked_until"]) == (whole.checked_until, None)
    wide = reconcile(acme, since=ago(DAY))
    assert wide.checked_until == latest_run(acme)["checked_until"] > whole.checked_until


def test_dry_run_counts_missing_and_writes_nothing(acme: World) -> None:
    fill(acme, 3)
    append_log(acme, attempts(CREATED, card_holder("lost"), 503, at=ago(MINUTE)))
    ids = append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(MINUTE)))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(ids))
    store_delivery(acme, CREATED, card_holder("forged"), at=ago(2 * HOUR))
    before = database_content(acme)
    dry = reconcile(acme, write=False)
    assert database_content(acme) == before
    done = reconcile(acme)
    for name in ("log_entries", "matched", "recovered", "unconfirmed", "unrecoverable"):
        assert getattr(dry, name) == getattr(done, name) > 0
    assert dry.checked_until is None
    assert reconcile(acme, write=False).checked_until == done.checked_until


def test_delivery_not_in_the_log_is_unconfirmed_after_the_grace(acme: World) -> None:
    fill(acme, 5)
    shown = acme.provider.state.log_of(acme.registered().id)
    acme.provider.behaviour.log_style = LogStyle(gaps=frozenset({shown[1].id}))
    new = store_delivery(acme, CREATED, card_holder("new"), at=ago(MINUTE))
    outcome = reconcile(acme)
    assert (outcome.matched, outcome.recovered, outcome.unconfirmed) == (4, 0, 1)
    assert reconcile(acme, grace=timedelta(seconds=30)).unconfirmed == 2
    assert reconcile(acme).unconfirmed == 1  # and is still open in the next run
    acme.provider.behaviour.log_style = LogStyle()
    append_log(acme, attempts(CREATED, card_holder("new"), 200, at=ago(MINUTE)))
    assert reconcile(acme, grace=timedelta(seconds=30), since=ago(DAY)).unconfirmed == 0
    assert value(acme, "SELECT confirmed_at FROM receiver.deliveries WHERE id = :id", id=new) is not None
    assert value(acme, "SELECT count(*) FROM receiver.deliveries") == 6


def test_forged_replay_is_unconfirmed_and_original_confirmed(acme: World) -> None:
    fill(acme, 1)
    assert reconcile(acme).unconfirmed == 0
    store_delivery(acme, CREATED, card_holder("employee-0"), at=ago(20 * MINUTE))
    assert reconcile(acme, since=ago(DAY)).unconfirmed == 1
    confirmed = rows(acme, "SELECT confirmed_at IS NOT NULL AS is_so FROM receiver.deliveries ORDER BY id")
    assert [row["is_so"] for row in confirmed] == [True, False]


def test_unconfirmed_deliveries_can_be_listed(acme: World, environment: dict[str, str]) -> None:
    def listed(*options: str) -> list[int]:
        run = CliRunner(env=environment).invoke(main, ["deliveries", "list", "--unconfirmed", "--json", *options])
        return [row["id"] for row in json.loads(run.stdout)["deliveries"]]

    fill(acme, 2)
    forged = store_delivery(acme, CREATED, card_holder("forged"), at=ago(HOUR))
    older = store_delivery(acme, CREATED, card_holder("older"), at=ago(OPEN_PERIOD + HOUR))
    store_delivery(acme, CREATED, card_holder("new"), at=ago(MINUTE))
    assert listed() == [], "before the log was compared"
    reconcile(acme)  # the first run compares all there is
    assert (reconcile(acme).unconfirmed, listed()) == (1, [forged])
    assert listed("--organization", "acme") == [forged]
    assert listed("--since", "30d") == [older, forged]
    assert listed("--status", "dead") == []


def test_run_does_not_count_what_a_person_confirmed(acme: World) -> None:
    first, _ = (store_delivery(acme, CREATED, card_holder(f"employee-{each}"), at=ago(HOUR)) for each in (1, 2))
    assert reconcile(acme).unconfirmed == 2
    accept_deliveries(acme.engine, (first,), by="kim@ops", reason="a gap in their log")
    assert reconcile(acme, write=False).unconfirmed == reconcile(acme).unconfirmed == 1
    append_log(acme, attempts(CREATED, card_holder("employee-1"), 200, at=ago(HOUR)))
    assert reconcile(acme, since=ago(DAY)).unconfirmed == 1
    found = rows(acme, "SELECT id FROM receiver.deliveries WHERE confirmed_at IS NOT NULL")
    assert [row["id"] for row in found] == [first], "the log has it after all"


def test_open_issues_are_counted_for_eight_days(acme: World) -> None:
    reconcile(acme)
    store_delivery(acme, CREATED, card_holder("forged"), at=ago(OPEN_PERIOD - HOUR))
    store_delivery(acme, CREATED, card_holder("long ago"), at=ago(OPEN_PERIOD + HOUR))
    assert reconcile(acme).unconfirmed == 1


def test_missing_event_without_payload_is_only_counted(acme: World) -> None:
    lost = append_log(acme, attempts(CLEARED, snapshot("cleared"), None, 503, 503, at=ago(HOUR)))
    fill(acme, 3, at=ago(MINUTE))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(lost))
    outcome = reconcile_and_process(acme)
    assert (outcome.log_entries, outcome.matched, outcome.recovered, outcome.unrecoverable) == (6, 3, 0, 1)
    assert value(acme, "SELECT count(*) FROM receiver.deliveries") == 3
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log WHERE unrecoverable") == 1
    assert reconcile(acme).unrecoverable == 1  # a later window does not reach it, and it is open still


def test_successful_retry_closes_an_event_without_payload(acme: World) -> None:
    ids = append_log(acme, attempts(CLEARED, snapshot("cleared"), 503, at=ago(HOUR)))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(ids))
    assert reconcile(acme).unrecoverable == 1
    ids += append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(MINUTE)))
    store_delivery(acme, CLEARED, snapshot("cleared"), at=ago(MINUTE))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(ids))
    outcome = reconcile(acme)
    assert (outcome.matched, outcome.unrecoverable) == (1, 0)
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log WHERE unrecoverable") == 0


def test_payload_that_appears_later_is_recovered(acme: World) -> None:
    ids = append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(MINUTE)))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(ids))
    assert reconcile(acme).unrecoverable == 1
    acme.provider.behaviour.log_style = LogStyle()
    outcome = reconcile(acme)
    assert (outcome.recovered, outcome.unrecoverable) == (1, 0)


def test_log_without_payloads_confirms_what_it_can(acme: World) -> None:
    fill(acme, 5)
    shown = acme.provider.state.log_of(acme.registered().id)
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(each.id for each in shown))
    first = reconcile(acme)
    assert (first.matched, first.recovered, first.unconfirmed, first.unrecoverable) == (5, 0, 0, 0)
    assert drain(acme.engine)
    assert reconcile(acme, since=ago(DAY)) == first.__class__(
        **{
            **{name: getattr(first, name) for name in first.__slots__},
            "checked_until": latest_run(acme)["checked_until"],
        }
    )


def test_mirror_has_each_attempt_once_and_follows_changes(acme: World) -> None:
    ids = append_log(acme, attempts(CREATED, card_holder(), None, 503, at=ago(HOUR)))
    for _ in range(3):
        reconcile(acme, since=ago(DAY))
    entries = rows(acme, "SELECT * FROM receiver.delivery_log ORDER BY attempted_at")
    assert [entry["opencard_event_id"] for entry in entries] == [str(number) for number in ids]
    assert [entry["response_status"] for entry in entries] == [None, 503]
    assert all(bytes(entry["item"]).startswith(b"{") and entry["fingerprint"] for entry in entries)


@pytest.mark.parametrize("id_name", ["id", None])
def test_equal_entries_are_counted_each(acme: World, id_name: Any) -> None:
    acme.provider.behaviour.log_style = LogStyle(id_name=id_name, microseconds=False)
    at = ago(HOUR).replace(microsecond=0)
    for number in range(3):
        append_log(acme, attempts(CREATED, card_holder(), 200, at=at + timedelta(milliseconds=number)))
    outcome = reconcile(acme)
    assert (outcome.log_entries, outcome.recovered) == (3, 3)
    again = reconcile(acme, since=ago(DAY))
    assert (again.log_entries, again.recovered) == (3, 0)
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == 3


@pytest.mark.parametrize("order", ["newest-first", "oldest-first", "any"])
@pytest.mark.parametrize("id_name", ["id", None])
def test_attempts_logged_during_the_reading_count_once(acme: World, order: Any, id_name: Any) -> None:
    acme.provider.behaviour.log_style = LogStyle(order=order, id_name=id_name, seed=4)
    acme.provider.behaviour.per_page = 3
    for number in range(20):
        append_log(acme, attempts(CREATED, card_holder(f"employee-{number}"), 200, at=ago(HOUR - number * MINUTE)))
    added = 0

    def one_more(path: str, page: int) -> None:
        nonlocal added
        if path.endswith("/events") and page > 1 and added < 3:
            added += 1
            append_log(acme, attempts(CREATED, card_holder(f"new-{added}"), 200, at=ago(timedelta())))

    acme.provider.behaviour.before_page = one_more
    outcome = reconcile(acme)
    assert (outcome.log_entries, outcome.recovered) == (outcome.recovered, outcome.log_entries)
    bodies = {bytes(row["body"]) for row in rows(acme, "SELECT body FROM receiver.deliveries")}
    assert len(bodies) == outcome.recovered >= 20
    assert all(any(f'"employee-{number}"'.encode() in each for each in bodies) for number in range(20))
    assert reconcile(acme).recovered == 23 - outcome.recovered
    assert reconcile(acme).recovered == 0


def others(world: World, *references: str) -> list[int]:
    """Adopt more webhooks; return this service's ids of all, acme's first."""
    add_managed(world, *references)
    return [row["id"] for row in rows(world, "SELECT id FROM receiver.webhooks ORDER BY id")]


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "lacks the scope"), (404, "there is none, or this client may not see it"), (400, "answers 400")],
)
def test_unreadable_log_is_reported_and_stops_no_other_webhook(acme: World, status: int, words: str) -> None:
    ids = others(acme, "globex", "initech")
    lose(acme, "a", organization="acme")
    lose(acme, "b", organization="initech")
    globex = rows(acme, "SELECT * FROM receiver.webhooks ORDER BY id")[1]
    path = f"/webhooks/{globex['opencard_webhook_id']}/events"
    acme.provider.faults.add(ApiFault.answers(status, path=f"{path}$", times=9))
    outcomes = reconciler(acme).run()
    assert [outcome.webhook_id for outcome in outcomes] == ids
    assert [outcome.recovered for outcome in outcomes] == [1, 0, 1]
    said = outcomes[1].error or ""
    assert [outcome.error for outcome in outcomes] == [None, said, None]
    assert all(each in said for each in (path, SCOPE, f"organization {globex['organization_id']}", words))
    (failed,) = rows(acme, "SELECT * FROM receiver.reconcile_runs WHERE error IS NOT NULL")
    assert (failed["webhook_id"], failed["error"], failed["checked_until"]) == (ids[1], said, None)
    assert failed["ended_at"] is not None


def test_missing_scope_is_named_for_each_webhook(acme: World) -> None:
    others(acme, "globex")
    acme.provider.clients.set_scopes(acme.client.id, tuple(s for s in acme.client.scopes if s != SCOPE))
    outcomes = reconciler(acme).run()
    assert all(f"scope {SCOPE}" in (outcome.error or "") for outcome in outcomes)
    assert len(rows(acme, "SELECT id FROM receiver.reconcile_runs WHERE error IS NOT NULL")) == 2


def test_temporary_refusal_is_retried(acme: World) -> None:
    append_log(acme, attempts(CREATED, card_holder(), 503, at=ago(MINUTE)))
    for status in (503, 429):
        acme.provider.faults.add(ApiFault.answers(status, path="/events$"))
    assert reconcile(acme).recovered == 1


def test_failed_run_changes_nothing_and_the_next_completes_it(acme: World) -> None:
    first = reconcile(acme)
    for number in range(30):
        append_log(
            acme, attempts(CREATED, card_holder(f"employee-{number}"), 503, at=ago(timedelta(seconds=30 - number)))
        )

    def break_down(path: str, page: int) -> None:
        if path.endswith("/events") and page == 3:
            acme.provider.faults.add(ApiFault.answers(400, path="/events$"))

    acme.provider.behaviour.before_page = break_down
    (failed,) = reconciler(acme).run()
    assert "answers 400" in (failed.error or "")
    assert rows(acme, "SELECT id FROM receiver.deliveries") == rows(acme, "SELECT id FROM receiver.delivery_log") == []
    acme.provider.behaviour.before_page = lambda _path, _page: None
    second = reconcile(acme)
    assert (second.recovered, latest_run(acme)["since"]) < (31, first.checked_until)
    assert second.recovered == 30


def test_one_run_at_a_time_reconciles_a_webhook(acme: World) -> None:
    ids = others(acme, "globex")
    lose(acme, "a", organization="acme")
    reading, go_on = threading.Event(), threading.Event()
    path = f"/webhooks/{acme.provider.state.webhooks()[0].id}/events"

    def wait(asked: str, _page: int) -> None:
        if asked.endswith(path):
            reading.set()
            assert go_on.wait(20)

    acme.provider.behaviour.before_page = wait
    found: list[ReconcileOutcome] = []
    slow = threading.Thread(target=lambda: found.extend(reconciler(acme).run([ids[0]])))
    slow.start()
    assert reading.wait(20)
    busy, other = reconciler(acme).run()
    assert (busy.error, busy.recovered, other.error) == (BUSY, 0, None)
    go_on.set()
    slow.join()
    assert [(outcome.error, outcome.recovered) for outcome in found] == [(None, 1)]
    assert reconciler(acme).run([ids[0]])[0].recovered == 0


def test_two_runs_at_once_recover_everything_once(acme: World) -> None:
    others(acme, *(f"organization-{number}" for number in range(6)))
    for number in range(6):
        lose(acme, "a", "b", organization=f"organization-{number}")
    runs = [threading.Thread(target=lambda: reconciler(acme).run()) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    reconciler(acme).run()
    assert value(acme, "SELECT count(*) FROM receiver.deliveries") == 12
    assert rows(acme, "SELECT 1 FROM receiver.reconcile_runs WHERE ended_at IS NULL") == []


def test_next_run_marks_an_interrupted_run(acme: World) -> None:
    execute(acme, "INSERT INTO receiver.reconcile_runs (webhook_id) SELECT id FROM receiver.webhooks")
    reconcile(acme)
    (before, after) = rows(acme, "SELECT * FROM receiver.reconcile_runs ORDER BY id")
    assert (before["error"], before["ended_at"] is not None) == (INTERRUPTED, True)
    assert after["error"] is None


def test_tenants_stay_apart(acme: World) -> None:
    others(acme, "globex")
    lose(acme, "employee-1", organization="globex")
    lose(acme, "employee-1", organization="acme")
    outcomes = reconciler(acme).run()
    assert [(outcome.organization_reference_id, outcome.recovered) for outcome in outcomes] == [
        ("acme", 1),
        ("globex", 1),
    ]
    assert drain(acme.engine)
    holders = rows(acme, "SELECT organization_reference_id AS name FROM ems.card_holders ORDER BY 1")
    assert [row["name"] for row in holders] == ["acme", "globex"]
    stored = rows(
        acme,
        "SELECT organization_reference_id AS name, convert_from(body, 'UTF8') AS body FROM receiver.deliveries"
        " JOIN receiver.webhooks ON webhooks.id = webhook_id",
    )
    assert all(f'"{row["name"]}"' in row["body"] for row in stored)


def test_only_the_given_webhooks_are_reconciled(acme: World) -> None:
    ids = others(acme, "globex", "initech")
    assert [outcome.webhook_id for outcome in reconciler(acme).run(ids[1:2])] == ids[1:2]
    assert len({each.path for each in acme.provider.requests.all(path="/events")}) == 1
    with pytest.raises(OperationRefused, match=f"webhook {max(ids) + 1}: unknown here"):
        reconciler(acme).run([max(ids) + 1])
    assert reconciler(acme).run([]) == []


def test_webhook_not_registered_yet_is_skipped(acme: World) -> None:
    ids = others(acme, "globex")
    execute(acme, "UPDATE receiver.webhooks SET opencard_webhook_id = NULL WHERE id = :id", id=ids[0])
    assert [outcome.webhook_id for outcome in reconciler(acme).run()] == ids[1:]


def test_disabled_webhook_is_reconciled_only_by_its_id(acme: World) -> None:
    execute(acme, "UPDATE receiver.webhooks SET enabled = false")
    assert reconciler(acme).run() == []
    (outcome,) = reconciler(acme).run([acme.stored().id])
    assert outcome.error is None


def test_progress_advances_with_each_webhook(acme: World) -> None:
    others(acme, "globex", "initech")
    calls: list[object] = []
    reconciler(acme).run(
        progress=Progress(stage=calls.append, total=calls.append, advance=lambda: calls.append("one more"))
    )
    assert calls[:2] in ([3, "reading the delivery log"], ["reading the delivery log", 3])
    assert calls[2:] == ["one more"] * 3


def test_log_older_than_the_webhook_extends_completeness(acme: World) -> None:
    begins = "SELECT complete_from FROM ems.completeness"
    added = value(acme, "SELECT added_at FROM ems.organizations")
    append_log(acme, attempts(CREATED, card_holder(), 200, at=ago(MINUTE - MINUTE)))
    reconcile(acme)
    assert value(acme, begins) == added
    oldest = ago(300 * DAY)
    append_log(acme, attempts(CREATED, card_holder(), 200, at=oldest))
    reconcile(acme, write=False, since=oldest - DAY)
    assert value(acme, begins) == added
    reconcile(acme, since=oldest - DAY)
    assert value(acme, begins) == oldest
    assert value(acme, "SELECT added_at FROM ems.organizations") == added


@pytest.mark.parametrize("implausible", [datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)])
def test_implausible_time_does_not_extend_completeness(acme: World, implausible: datetime) -> None:
    oldest = ago(300 * DAY)
    append_log(acme, attempts(CREATED, card_holder("employee-1"), 200, at=oldest))
    append_log(acme, attempts(CREATED, card_holder("employee-2"), 200, at=implausible))
    reconcile(acme)
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == 2
    assert value(acme, "SELECT complete_from FROM ems.completeness") == oldest


def test_session_keeps_nothing_of_the_previous_webhook(acme: World) -> None:
    ids = others(acme, "globex")
    lose(acme, "a", "b", organization="acme")
    outcomes = reconciler(acme).run(parallelism=1)
    assert [(outcome.webhook_id, outcome.log_entries) for outcome in outcomes] == [(ids[0], 2), (ids[1], 0)]
    assert value(acme, ADVISORY) == 0
