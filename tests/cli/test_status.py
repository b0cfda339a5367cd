"""``receiver status``, as an operator and a monitoring script run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from tests.factories import card_holder
from tests.ops.standings import add_run, webhook_id_of
from tests.test_worker_pool import ACCESS

if TYPE_CHECKING:
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
    acme.tell("card_holder.created", card_holder())
    acme.take("card_holder.identified", card_holder())
    add_run(acme.engine, "acme", minutes_ago=1, recovered_in_all=3)
    result = run("--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    waiting_since = datetime.fromisoformat(document.pop("oldest_waiting_received_at"))
    (organization,) = document.pop("organizations")
    checked_until = datetime.fromisoformat(organization.pop("checked_until"))
    assert timedelta() <= datetime.now(UTC) - waiting_since < timedelta(minutes=1)
    assert timedelta(minutes=1) <= datetime.now(UTC) - checked_until < timedelta(minutes=2)
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
        "inactive_webhooks": [],
        "needs_a_person": [],
    }


def test_people_see_one_screen(acme: Acme, run: Run) -> None:
    acme.take("card_holder.created", card_holder())
    acme.execute("UPDATE receiver.deliveries SET received_at = now() - interval '2 hours 5 minutes'")
    add_run(acme.engine, "acme", minutes_ago=3, recovered_in_all=12)
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "waiting      1 pending, 0 failed; the oldest for 2 h 5 min"
    assert [line.split() for line in lines[1:4]] == [["dead", "0"], ["quarantined", "0"], ["webhooks", "1"]]
    assert lines[5].split("  ")[0] == "organization"
    assert lines[6].startswith("acme ")
    assert " UTC, 3 min" in lines[6]
    assert lines[6].split()[-4:] == ["12", "0", "0", "no"]
    assert lines[-1] == "nothing needs a person"


def needs(result: Result) -> list[str]:
    assert result.exit_code == 1
    found = json.loads(result.stdout)["needs_a_person"]
    assert isinstance(found, list)
    return found


def test_each_thing_that_needs_a_person_is_named(organizations: Organizations, run: Run) -> None:
    acme = organizations.adopt("acme")
    acme.tell("card_holder.created", card_holder(organization="globex"))
    acme.tell("card_holder.created", b"{}")
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

    no_payload = "for the log has no payload: get the data from OpenCard in another way"
    not_applied = "not applied, for want of proof where it belongs; receiver.deliveries.error says why"
    said = needs(run("--json"))
    stale = said.pop()
    assert stale.startswith(f"{name('stale')}: not checked since ")
    assert stale.endswith(" UTC: are the scheduler and a worker running?")
    assert sorted(said) == sorted(
        [
            "1 dead delivery: could not be processed; receiver.deliveries.error says why",
            f"1 quarantined delivery: {not_applied}",
            f"{name('forged')}: 2 stored deliveries not in OpenCard's log: possibly forged, or a gap in the log",
            f"{name('lost')}: 1 lost event cannot be recovered, {no_payload}",
            f"{name('forbidden')}: the last run failed: {FORBIDDEN}",
            f"{name('asleep')}: not active, OpenCard sends nothing to it: receiver bootstrap has it asked again",
        ]
    )
    for_people = run()
    assert for_people.exit_code == 1
    assert for_people.stderr.splitlines() == [*said, stale]
    assert for_people.stdout.splitlines()[-1] == "7 to look at"


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


def test_a_failure_that_is_mended_needs_nobody_any_more(acme: Acme, run: Run) -> None:
    add_run(acme.engine, "acme", minutes_ago=2, error=FORBIDDEN)
    assert run().exit_code == 1
    add_run(acme.engine, "acme", minutes_ago=1)
    assert run().exit_code == 0


def test_without_access_to_the_api_it_is_said_once_and_not_for_each_webhook(
    organizations: Organizations, run: Run
) -> None:
    for organization in ("acme", "globex"):
        organizations.adopt(organization).execute("UPDATE receiver.webhooks SET created_at = now() - interval '1 day'")
    result = run("--json", OPENCARD_CLIENT_SECRET="")
    assert needs(result) == ["webhooks are not reconciled: OPENCARD_CLIENT_SECRET is not set"]


def test_a_webhook_whose_registration_was_cut_off_is_named(acme: Acme, run: Run) -> None:
    acme.execute("UPDATE receiver.webhooks SET opencard_webhook_id = NULL")
    (said,) = needs(run("--json"))
    assert said.endswith("(acme): not registered at OpenCard: receiver bootstrap completes it")


def test_a_webhook_that_is_disabled_here_needs_nobody(acme: Acme, run: Run) -> None:
    acme.execute("UPDATE receiver.webhooks SET enabled = false, active = false, created_at = now() - interval '1 day'")
    result = run()
    assert result.exit_code == 0
    assert "no webhook in care" in result.stdout


def test_it_asks_only_for_the_database(acme: Acme, environment: dict[str, str]) -> None:
    del acme  # asked for so that there is something to show
    only = dict.fromkeys((*environment, *ACCESS)) | {"DATABASE_URL": environment["DATABASE_URL"]}
    result = CliRunner(env=only).invoke(main, ["status", "--json"])
    assert needs(result)[0].startswith("webhooks are not reconciled: OPENCARD_ACCOUNT_ID")
