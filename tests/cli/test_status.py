"""``receiver status``, as an operator and a monitoring script run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from receiver.cli import main
from receiver.connections import WEB
from receiver.counter_store import Flusher, connecting
from receiver.counters import count_request, unstored_counts
from receiver.ops.rollup import roll_up_once
from tests.support.applications import unreachable_redis
from tests.support.factories import card_holder, snapshot
from tests.support.pools import ACCESS
from tests.support.service_states import add_run, webhook_id_of

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations

Run = Callable[..., Result]
FORBIDDEN = "GET /accounts/1/.../events: 403, the client lacks webhook-events-read"


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str, **changes: str | None) -> Result:
        result = CliRunner(env={**environment, **ACCESS, **changes}).invoke(main, ["status", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def test_machines_get_one_document_and_nothing_else(acme: Acme, run: Run) -> None:
    acme.apply("card_holder.created", card_holder())
    acme.deliver_ok("card_holder.identified", card_holder())
    add_run(acme.engine, "acme", minutes_ago=1, recovered_in_all=3)
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    waiting_since = datetime.fromisoformat(document.pop("oldest_waiting_received_at"))
    (organization,) = document.pop("organizations")
    checked_until = datetime.fromisoformat(organization.pop("checked_until"))
    assert timedelta() <= datetime.now(UTC) - waiting_since < timedelta(minutes=1)
    assert timedelta(minutes=1) <= datetime.now(UTC) - checked_until < timedelta(minutes=2)
    assert document.pop("rates_per_minute") == []
    assert document.pop("totals").keys() == {"received", "processed", "failed"}
    assert document.pop("workers") == {"reachable": True, "by_queue": {}, "ahead": 0}
    receipts = document.pop("receipts")
    assert (receipts["waiting"], receipts["failing"]) == (0, 0)
    assert organization == {
        "organization_reference_id": "acme",
        "recovered": 3,
        "unconfirmed": 0,
        "unrecoverable": 0,
        "last_error": None,
    }
    assert document == {
        "pending": 1,
        "failed": 0,
        "dead": 0,
        "quarantined": 0,
        "ignored": 0,
        "failures": [],
        "unknown_formats": {"ignored": [], "applied": []},
        "inactive_webhooks": [],
        "organizations_without_webhook": [],
        "replays": [],
        "retention": None,
        "feed_epoch": None,
        "consumers": [],
        "invoices_that_differ": [],
        "ageing": {
            "not_invoiced": {"days": 45, "number": 0, "oldest": None},
            "not_cleared": {"days": 10, "number": 0, "oldest": None},
        },
        "refused_deliveries": [],
        "needs_attention": [],
        "acknowledged": [],
    }


def test_people_see_one_screen(acme: Acme, run: Run) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    acme.execute("UPDATE receiver.stored_deliveries SET received_at = now() - interval '2 minutes 5 seconds'")
    add_run(acme.engine, "acme", minutes_ago=3, recovered_in_all=12)
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    shown = [line for line in lines[: lines.index("")] if not line.startswith(("as of", "per minute", "all time"))]
    figures = dict(line.split(maxsplit=1) for line in shown)
    assert figures.pop("backlog").startswith("1 pending, 0 failed; the oldest for 2 min ")
    assert figures == {
        "dead": "0",
        "quarantined": "0",
        "ignored": "0",
        "webhooks": "1",
        "workers": "0 for deliveries",
        "receipts": "0 waiting for their files, 0 of them failing",
        "retention": "never run",
    }
    heading, row = lines[lines.index("") + 1 : lines.index("") + 3]
    assert heading.split("  ")[0] == "organization"
    assert row.startswith("acme ")
    assert " 3 min " in row
    assert row.split()[-4:] == ["12", "0", "0", "no"]
    assert lines[-1] == "Issues: none"


def needs(result: Result) -> list[str]:
    assert result.exit_code == 1
    found = json.loads(result.stdout)["needs_attention"]
    assert isinstance(found, list)
    return found


def test_each_thing_that_needs_attention_is_named(organizations: Organizations, run: Run) -> None:
    acme = organizations.adopt("acme")
    acme.apply("card_holder.created", card_holder(organization="globex"))
    acme.apply("card_holder.created", b"{}")
    for number, organization in enumerate(("forged", "lost", "forbidden", "stale", "asleep", "well")):
        organizations.adopt(organization)
        add_run(acme.engine, organization, minutes_ago=16 if organization == "stale" else number / 10)
    add_run(acme.engine, "acme")
    add_run(acme.engine, "forged", unconfirmed=2)
    add_run(acme.engine, "lost", unrecoverable=1)
    add_run(acme.engine, "forbidden", error=FORBIDDEN)
    acme.execute("UPDATE receiver.webhooks SET active = organization_reference_id <> 'asleep'")

    def name(organization: str) -> str:
        return f"webhook {webhook_id_of(acme.engine, organization)} ({organization})"

    no_payload = "because the delivery log has no payload: ask OpenCard for the data"
    quarantined, dead = (row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id"))
    other = "organization.reference_id is 'globex', but this webhook belongs to organization 'acme'; not applied"
    of_cause = "--event card_holder.created --error"
    remedy = f"fix the cause, then receiver replay --status dead {of_cause} 'card_holder: missing' --reason TEXT"
    listed = f"receiver deliveries list --status quarantined {of_cause} {quote(other)}"
    again = "register it again, which triggers a new challenge; receiver bootstrap --organization asleep"
    forged = f"{name('forged')}: 2 stored deliveries not in OpenCard's log: possibly forged, or a gap in the log; "
    forged += "receiver deliveries list --unconfirmed --organization forged"
    said = needs(run("--json"))
    (stale,) = (line for line in said if line.startswith(f"{name('stale')}: not checked since "))
    assert stale.endswith(" UTC: are the scheduler and a worker running?")
    assert said[-1] == forged, "the mildest comes last"
    assert sorted(said) == sorted(
        [
            f"1 dead delivery of card_holder.created: card_holder: missing; receiver deliveries show {dead}; {remedy}",
            f"1 quarantined delivery of card_holder.created: {other}; receiver deliveries show {quarantined}; {listed}",
            forged,
            stale,
            f"{name('lost')}: 1 lost event cannot be recovered, {no_payload}",
            f"{name('forbidden')}: the last run failed: {FORBIDDEN}; receiver reconcile --organization forbidden",
            f"{name('asleep')}: not active, OpenCard sends nothing to it: {again}",
        ]
    )
    for_people = run()
    assert for_people.exit_code == 1
    assert for_people.stderr.splitlines() == said
    assert for_people.stdout.splitlines()[-1] == "Issues: 7 (receiver issues list)"


def test_a_webhook_of_this_minute_need_not_be_checked_yet(acme: Acme, run: Run) -> None:
    assert run("--json").exit_code == 0
    acme.execute("UPDATE receiver.webhooks SET created_at = now() - interval '16 minutes'")
    (never,) = needs(run("--json"))
    name = f"webhook {webhook_id_of(acme.engine, 'acme')} (acme)"
    assert never == f"{name}: never checked: are the scheduler and a worker running?"
    assert " never " in run().stdout


@pytest.mark.parametrize(("interval", "code"), [("600", 0), ("300", 1), ("0", 0)])
def test_how_old_a_check_may_be_follows_from_the_interval(acme: Acme, run: Run, interval: str, code: int) -> None:
    add_run(acme.engine, "acme", minutes_ago=20)
    assert run(RECONCILE_INTERVAL=interval).exit_code == code


def test_fixed_failure_needs_no_attention(acme: Acme, run: Run) -> None:
    add_run(acme.engine, "acme", minutes_ago=2, error=FORBIDDEN)
    assert run().exit_code == 1
    add_run(acme.engine, "acme", minutes_ago=1)
    assert run().exit_code == 0


def test_missing_api_access_is_reported_only_once(organizations: Organizations, run: Run) -> None:
    for organization in ("acme", "globex"):
        organizations.adopt(organization).execute("UPDATE receiver.webhooks SET created_at = now() - interval '1 day'")
    result = run("--json", OPENCARD_CLIENT_SECRET="")
    assert needs(result) == ["webhooks are not reconciled: OPENCARD_CLIENT_SECRET is not set"]


def test_a_webhook_whose_registration_was_cut_off_is_named(acme: Acme, run: Run) -> None:
    acme.execute("UPDATE receiver.webhooks SET opencard_webhook_id = NULL")
    (said,) = needs(run("--json"))
    assert said.endswith("(acme): not registered at OpenCard; receiver bootstrap --organization acme")


def test_disabled_webhook_needs_no_attention(acme: Acme, run: Run) -> None:
    acme.execute("UPDATE receiver.webhooks SET enabled = false, active = false, created_at = now() - interval '1 day'")
    result = run()
    assert result.exit_code == 0
    assert "no webhooks registered" in result.stdout


def test_it_asks_only_for_the_database(acme: Acme, environment: dict[str, str]) -> None:
    del acme  # asked for so that there is something to show
    only = dict.fromkeys((*environment, *ACCESS)) | {"DATABASE_URL": environment["DATABASE_URL"]}
    result = CliRunner(env=only).invoke(main, ["status", "--json"])
    assert needs(result)[0].startswith("webhooks are not reconciled: OPENCARD_ACCOUNT_ID")


def test_unprocessed_deliveries_need_attention(acme: Acme, run: Run) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    acme.execute("UPDATE receiver.stored_deliveries SET received_at = now() - interval '6 minutes'")
    (said,) = needs(run("--json"))
    assert said.startswith("1 pending delivery, the oldest received at ")
    assert said.endswith(" UTC: is a worker running?")


def test_failures_are_shown_by_their_cause_with_an_example(organizations: Organizations, run: Run) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    for _ in range(2):
        acme.apply("card_holder.created", b"{}")
    globex.apply("card_holder.created", b"{}")
    acme.apply("card_holder.deleted", card_holder(organization="globex"))
    (dead, quarantined) = json.loads(run("--json").stdout)["failures"]
    assert (dead["number"], dead["status"], dead["event"]) == (3, "dead", "card_holder.created")
    assert (dead["organizations"], dead["number_of_organizations"]) == (["acme", "globex"], 2)
    assert (quarantined["number"], quarantined["status"]) == (1, "quarantined")
    example = acme.value("SELECT max(id) FROM receiver.deliveries WHERE status = 'dead'")
    assert dead["example_id"] == example
    (row,) = [line for line in run().stdout.splitlines() if line.split()[:2] == ["3", "dead"]]
    assert "acme and 1 more" in row
    assert row.endswith(str(example))


def test_rates_are_shown_once_there_is_an_earlier_count(acme: Acme, run: Run, settings: Settings) -> None:
    assert "per minute   not known until the scheduler has run for five minutes" in run().stdout
    unstored_counts.take()
    roll_up_once(acme.engine)
    received = json.loads(run("--json").stdout)["totals"]["received"]
    acme.execute("UPDATE receiver.counter_minutes SET at = at - interval '6 minutes'")
    for _ in range(30):
        count_request("delivery", 200, "stored")
    assert Flusher(connecting(settings.database_url)).flush()
    assert json.loads(run("--json").stdout)["totals"]["received"] == received + 30
    assert f"{received + 30} deliveries received; attempts: " in run().stdout
    (rate,) = json.loads(run("--json").stdout)["rates_per_minute"]
    assert rate["received"] == pytest.approx(5, rel=0.1)
    assert "5.0 received; attempts: 0.0 succeeded, 0.0 failed (last 6 min)" in run().stdout


def test_organizations_that_need_attention_are_first(organizations: Organizations, run: Run) -> None:
    for number in range(30):
        acme = organizations.adopt(f"organization-{number:02}")
        add_run(acme.engine, f"organization-{number:02}", minutes_ago=1)
    acme.execute("UPDATE receiver.webhooks SET active = false WHERE organization_reference_id = 'organization-29'")
    lines = run().stdout.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("organization-")]
    assert shown == ["organization-29", *(f"organization-{number:02}" for number in range(14))]
    assert "and 15 more, all checked" in lines
    acme.execute("UPDATE receiver.webhooks SET active = false")
    result = run()
    assert "and 15 more, 15 of them with issues" in result.stdout
    assert result.stderr.splitlines()[-1] == "and 10 more: see receiver status --json"


def test_replays_and_retention_are_shown(acme: Acme, run: Run) -> None:
    acme.execute(
        "INSERT INTO receiver.replays (requested_by, reason, filter, selected) VALUES ('jane', 'fixed', '{}', 3)"
    )
    acme.execute(
        "INSERT INTO receiver.retention_runs (started_at, ended_at, removed, caught_up)"
        " SELECT now() - interval '2 hours', now() - interval '2 hours', '{\"processed\": 7}', true"
    )
    shown = run().stdout
    assert " by jane, 3 deliveries, for 0 s\n" in shown
    assert "retention    7 removed, 2 h ago\n" in shown
    acme.execute("UPDATE receiver.retention_runs SET started_at = now() - interval '3 days', ended_at = started_at")
    acme.execute("UPDATE receiver.retention_runs SET ended_at = started_at")
    assert needs(run("--json"))[0].startswith("retention: no run has succeeded since ")
    acme.execute("UPDATE receiver.retention_runs SET error = 'OperationalError: away'")
    assert needs(run("--json")) == ["retention: the last run failed: OperationalError: away"]


def test_without_redis_it_says_so(acme: Acme, run: Run) -> None:
    del acme  # asked for so that there is something to show
    result = run(REDIS_URL=unreachable_redis())
    assert result.exit_code == 1
    assert "workers      not known: Redis cannot be reached" in result.stdout
    assert result.stderr.startswith("Redis (REDIS_URL) cannot be reached")
    assert "workers      not known: REDIS_URL is not set" in run(REDIS_URL=None).stdout


def test_reason_why_nothing_can_be_stored_is_named(acme: Acme, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.cli.status.WEB", replace(WEB, lock=1))
    add_run(acme.engine, "acme", minutes_ago=1)
    with acme.engine.begin() as connection:
        connection.execute(text("LOCK receiver.stored_deliveries IN SHARE MODE"))
        result = run()
    assert result.exit_code == 1
    assert "does not store deliveries, OpenCard gets 503: canceling statement due to lock timeout" in result.stderr
    assert run().exit_code == 0


def test_purchases_that_do_not_move_are_shown_as_information(acme: Acme, run: Run) -> None:
    for state, number in (("cleared", 2), ("authorized", 1), ("invoiced", 1)):
        for each in range(number):
            acme.apply(f"card.transaction.{state}", snapshot(state, transaction=f"{state}-{each}"))
    assert "ageing" not in run().stdout
    acme.execute("UPDATE ems.transactions SET updated_at = now() - interval '46 days'")
    assert "2 cleared and not invoiced for 45 days; 1 authorized, neither cleared" in " ".join(run().stdout.split())
    ageing = json.loads(run("--json").stdout)["ageing"]
    assert [(each["days"], each["number"]) for each in ageing.values()] == [(45, 2), (10, 1)]
    acme.execute("UPDATE ems.transactions SET updated_at = now() - interval '44 days'")
    assert "1 authorized" in run().stdout
    assert "not invoiced" not in run().stdout
