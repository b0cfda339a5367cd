"""``receiver reconcile``, as an operator runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from receiver.cli import main
from receiver.processing.drain import drain
from receiver.queue import QUEUE
from receiver.sandbox.provider import ApiFault, LogStyle
from tests.support.applications import unreachable_redis
from tests.support.log_lines import logging_as_it_was
from tests.support.lost_events import add_managed, lose
from tests.support.reconcile_steps import DELIVERIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.world import World

Run = Callable[..., Result]
FIELDS = [
    "webhook_id",
    "opencard_webhook_id",
    "organization_reference_id",
    "log_entries",
    "matched",
    "recovered",
    "unconfirmed",
    "unrecoverable",
    "checked_until",
    "error",
]


@pytest.fixture
def run(world: World, environment: dict[str, str], redis: Redis) -> Iterator[Run]:
    """Runs ``receiver reconcile``; the webhooks of acme and globex are registered."""
    add_managed(world, "globex")
    assert world.bootstrap().failures == []
    world.provider.requests.clear()
    redis.flushdb()

    def invoke(*arguments: str, **changes: str | None) -> Result:
        given = {**world.environment(environment), **changes}
        result = CliRunner(env=given).invoke(main, ["reconcile", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert world.client.secret not in result.output
        return result

    with logging_as_it_was():
        yield invoke


def outcomes(result: Result) -> dict[str, dict[str, Any]]:
    """Return what was printed, by organization."""
    return {each["organization_reference_id"]: each for each in json.loads(result.stdout)}


def holders(world: World) -> list[str]:
    with world.engine.connect() as connection:
        return list(connection.scalars(text("SELECT reference_id FROM ems.card_holders ORDER BY 1")))


def whole_database(world: World) -> list[Any]:
    """Return every row that reconcile might write, with its version."""
    tables = (*DELIVERIES, "delivery_log", "reconcile_runs", "oauth_tokens", "webhooks")
    with world.engine.connect() as connection:
        return [
            tuple(row)
            for table in tables
            for row in connection.execute(text(f"SELECT xmin, t.* FROM receiver.{table} AS t ORDER BY 2"))  # noqa: S608
        ]


def test_machines_get_a_list_with_one_run_for_each_webhook(run: Run, world: World) -> None:
    lose(world, "employee-1", "employee-2")
    result = run("--json", LOG_LEVEL="DEBUG")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [list(each) for each in document] == [FIELDS, FIELDS]
    acme = outcomes(result)["acme"]
    checked_until = datetime.fromisoformat(acme.pop("checked_until"))
    assert timedelta() <= datetime.now(UTC) - checked_until < timedelta(minutes=1)
    stored = {webhook.organization_reference_id: webhook for webhook in world.store.all()}["acme"]
    assert acme == {
        "webhook_id": stored.id,
        "opencard_webhook_id": stored.opencard_webhook_id,
        "organization_reference_id": "acme",
        "log_entries": 2,
        "matched": 0,
        "recovered": 2,
        "unconfirmed": 0,
        "unrecoverable": 0,
        "error": None,
    }
    assert world.provider.requests.scopes_used() == {"webhook-events-read"}


def test_output_for_people_is_a_table_and_a_summary(run: Run, world: World) -> None:
    lose(world, "employee-1", "employee-2")
    result = run(LOG_LEVEL="ERROR")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *webhooks, summary = result.stdout.splitlines()
    assert heading.split("  ")[0] == "webhook"
    assert {line.split()[1]: line.split()[2:7] for line in webhooks} == {
        "acme": ["2", "0", "2", "0", "0"],
        "globex": ["0", "0", "0", "0", "0"],
    }
    compared, recovered, checked = summary.split(", ")
    assert (compared, recovered) == ("2 webhooks compared with the log", "2 events recovered")
    assert checked in {f"checked up to {line[-23:]}" for line in webhooks}
    assert run().stdout.splitlines()[-1].startswith(f"{compared}, checked up to ")


def test_checked_up_to_means_from_the_beginning(run: Run, world: World) -> None:
    lose(world, "employee-1", at=datetime.now(UTC) - timedelta(days=3))
    assert ", checked up to " not in run("--since", "1h").stdout
    assert ", checked up to " in run().stdout.splitlines()[-1]
    assert ", checked up to " in run("--since", "7d").stdout.splitlines()[-1]


def test_worker_is_woken_for_recovered_events(run: Run, world: World, redis: Redis) -> None:
    run()
    assert redis.llen(f"rq:queue:{QUEUE}") == 0
    lose(world, "employee-1")
    run()
    assert redis.llen(f"rq:queue:{QUEUE}") == 1
    assert drain(world.engine)
    assert holders(world) == ["employee-1"]


def test_unreachable_redis_is_only_a_warning(run: Run, world: World) -> None:
    lose(world, "employee-1")
    result = run("--json", REDIS_URL=unreachable_redis())
    assert result.exit_code == 0
    assert outcomes(result)["acme"]["recovered"] == 1
    assert "Redis cannot be reached" in result.stderr


def test_dry_run_reports_the_same_and_writes_nothing(run: Run, world: World, redis: Redis) -> None:
    lose(world, "employee-1", "employee-2")
    before = whole_database(world)
    tried = run("--dry-run", "--json")
    assert tried.exit_code == 0, tried.output
    assert run("--dry-run").stdout.splitlines()[-1] == "2 webhooks compared with the log, 2 events to recover"
    assert whole_database(world) == before
    assert redis.keys() == []
    assert world.writes() == []
    numbers = ("log_entries", "matched", "recovered", "unconfirmed", "unrecoverable")
    done = outcomes(run("--json"))
    for organization, outcome in outcomes(tried).items():
        assert [outcome[name] for name in numbers] == [done[organization][name] for name in numbers]


def test_only_the_organizations_that_are_named_are_run(run: Run, world: World) -> None:
    add_managed(world, "initech")
    result = run("--json", "--organization", "globex", "--organization", "initech")
    assert set(outcomes(result)) == {"globex", "initech"}
    assert len(world.provider.requests.all(path="/events")) == 2


def test_since_says_how_far_back_the_log_is_read(run: Run, world: World) -> None:
    run()
    lose(world, "too-early", at=datetime.now(UTC) - timedelta(days=30))
    lose(world, "early", at=datetime.now(UTC) - timedelta(days=6))
    lose(world, "just-now")
    run("--since", "7d")
    assert drain(world.engine)
    assert {"early", "just-now"} <= set(holders(world))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--organization", "glober"), 1, "organization 'glober' has no webhook; the nearest is globex"),
        (("--organization", "acme", "--organization", "x"), 1, "there are acme, globex"),
        (("--since", "24"), 2, "not a duration with its unit"),
        (("--since", "yesterday"), 2, "not a duration"),
        (("acme",), 2, "unexpected extra argument"),
    ],
)
def test_impossible_options_are_refused_before_any_request(
    run: Run, world: World, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in " ".join(result.stderr.split())
    assert world.provider.requests.all() == []


def test_failing_webhook_is_reported_and_stops_no_other(run: Run, world: World) -> None:
    acme = {webhook.organization_reference_id: webhook for webhook in world.store.all()}["acme"]
    world.provider.state.remove_webhook(acme.opencard_webhook_id or 0)
    lose(world, "employee-1", organization="globex")
    result = run("--json")
    assert result.exit_code == 1
    assert "404" in outcomes(result)["acme"]["error"]
    assert outcomes(result)["globex"]["recovered"] == 1
    for_people = run(LOG_LEVEL="ERROR")
    assert for_people.exit_code == 1
    assert for_people.stderr.startswith("organization acme: GET ")
    _, *rows, last = for_people.stdout.splitlines()
    assert last == "1 webhook compared with the log, 1 failed"
    assert ["globex" in row for row in rows] == [True], "what failed has no numbers"


def test_a_missing_scope_is_named(run: Run, world: World) -> None:
    world.provider.clients.set_scopes(world.client.id, ["webhooks-read"])
    result = run("--json")
    assert result.exit_code == 1
    assert "webhook-events-read" in result.output


def test_findings_that_need_attention_exit_with_1(run: Run, world: World) -> None:
    lose(world, "employee-1")
    (entry,) = world.provider.state.log_of(
        next(each.id for each in world.provider.state.webhooks() if world.provider.state.log_of(each.id))
    )
    world.provider.behaviour.log_style = LogStyle(without_payload=frozenset({entry.id}))
    result = run("--json")
    assert (result.exit_code, outcomes(result)["acme"]["unrecoverable"]) == (1, 1)
    assert run().stdout.splitlines()[-1] == "2 webhooks compared with the log, 1 unrecoverable"


def test_stored_delivery_missing_in_the_log_exits_with_1(run: Run, world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "WITH stored AS (INSERT INTO receiver.stored_deliveries (webhook_id, event, verification, received_at)"
                " SELECT id, 'card_holder.created', 'signature', now() - interval '1 hour'"
                " FROM receiver.webhooks WHERE organization_reference_id = 'acme' RETURNING id)"
                " INSERT INTO receiver.bodies (delivery_id, body, headers)"
                " SELECT id, CAST(:body AS bytea), '{}' FROM stored"
            ),
            {"body": b'{"card_holder": {"reference_id": "nobody"}, "organization": {"reference_id": "acme"}}'},
        )
    result = run("--json")
    assert (result.exit_code, outcomes(result)["acme"]["unconfirmed"]) == (1, 1)


def test_without_access_to_the_api_the_variables_are_named(run: Run) -> None:
    result = run("--json", OPENCARD_CLIENT_ID="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("OPENCARD_CLIENT_ID is missing")


def test_without_managed_webhooks_there_is_nothing_to_do(world: World, environment: dict[str, str]) -> None:
    result = CliRunner(env=world.environment(environment)).invoke(main, ["reconcile"])
    assert (result.exit_code, result.stdout) == (0, "no webhooks registered: receiver bootstrap registers them\n")


def test_an_unavailable_api_fails_each_run(run: Run, world: World) -> None:
    world.provider.faults.add(ApiFault.answers(503, path="/events", times=1000))
    result = run("--json")
    assert result.exit_code == 1
    assert all(each["error"] for each in outcomes(result).values())
    for_people = run(LOG_LEVEL="ERROR")
    assert for_people.stdout.startswith("no webhook was compared\n0 webhooks compared with the log, ")
