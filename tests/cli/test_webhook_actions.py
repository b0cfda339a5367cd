"""``receiver webhooks rotate-secret`` and ``test``, as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from receiver.cli import main
from receiver.sandbox.provider import ApiFault
from receiver.sandbox.provider.send_test import example
from tests.support.log_lines import logging_as_it_was
from tests.support.sending import processing

if TYPE_CHECKING:
    from tests.support.world import World

Run = Callable[..., Result]
EVENT = "environmental.impact.deedster"


@pytest.fixture
def run(world: World, environment: dict[str, str]) -> Iterator[Run]:
    """Runs ``receiver webhooks``; acme's webhook is registered."""
    assert world.bootstrap().failures == []
    world.provider.requests.clear()

    def invoke(*arguments: str, **changes: str | None) -> Result:
        given = {**world.environment(environment), **changes}
        result = CliRunner(env=given).invoke(main, ["webhooks", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        for webhook in (*world.store.all(), *world.store.tests()):
            for secret in (webhook.secret, webhook.credentials.basic_password, world.client.secret):
                assert not secret or secret not in result.output
        return result

    with logging_as_it_was(), processing(world.engine):
        yield invoke


def add(world: World, *references: str) -> None:
    """Register a webhook for more organizations."""
    world.add_organizations(*references)
    assert world.bootstrap().failures == []
    world.provider.requests.clear()


def ids(world: World) -> dict[str, str]:
    """Return this service's ids of the webhooks, by organization."""
    return {webhook.organization_reference_id: str(webhook.id) for webhook in world.store.all()}


def rotating(world: World) -> set[str]:
    return {
        webhook.organization_reference_id
        for webhook in world.store.all()
        if webhook.previous_secret_is_good(datetime.now(UTC))
    }


# --- rotate-secret --------------------------------------------------------------------------------------------------


def test_the_only_webhook_is_rotated_without_being_named(run: Run, world: World) -> None:
    result = run("rotate-secret", "--overlap", "2h", "--json")
    assert result.exit_code == 0, result.output
    (rotated,) = json.loads(result.stdout)
    expires_at = datetime.fromisoformat(rotated.pop("previous_secret_expires_at"))
    assert timedelta(minutes=119) < expires_at - datetime.now(UTC) <= timedelta(hours=2)
    assert rotated == {
        "id": world.stored().id,
        "organization_reference_id": "acme",
        "opencard_webhook_id": world.registered().id,
    }
    assert world.provider.requests.scopes_used() == {"webhooks-read", "webhooks-write"}


def test_people_see_until_when_the_previous_secret_is_good(run: Run, world: World) -> None:
    result = run("rotate-secret")
    assert result.exit_code == 0, result.output
    heading, line = result.stdout.splitlines()
    assert heading.split("  ")[-1].strip() == "previous secret valid until"
    assert line.split()[:2] == [str(world.stored().id), "acme"]
    assert line.strip().endswith("UTC")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--all",), {"acme", "globex", "initech"}),
        (("--organization", "acme", "--organization", "initech"), {"acme", "initech"}),
        (("{globex}",), {"globex"}),
        (("{globex}", "{globex}", "--organization", "acme"), {"acme", "globex"}),
    ],
)
def test_named_webhooks_are_rotated(run: Run, world: World, arguments: tuple[str, ...], expected: set[str]) -> None:
    add(world, "globex", "initech")
    result = run("rotate-secret", *(each.format(**ids(world)) for each in arguments), "--json")
    assert result.exit_code == 0, result.output
    assert {each["organization_reference_id"] for each in json.loads(result.stdout)} == rotating(world) == expected


IMPOSSIBLE_ROTATIONS = [
    ((), 2, "Give WEBHOOK_ID, --organization REF, or --all"),
    (("--all", "--organization", "acme"), 2, "not both"),
    (("--all", "--overlap", "24"), 2, "not a duration with its unit"),
    (("acme",), 2, "WEBHOOK_ID"),
    (("--organization", "glober"), 1, "organization 'glober' has no webhook; the nearest is globex"),
    (("999999999",), 1, "there is no webhook 999999999"),
]


def test_impossible_options_are_refused_before_any_request(run: Run, world: World) -> None:
    add(world, "globex")
    for arguments, code, said in IMPOSSIBLE_ROTATIONS:
        result = run("rotate-secret", *arguments, "--json")
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert said in result.stderr
    assert world.provider.requests.all() == []
    assert rotating(world) == set()


def test_failures_are_reported_after_the_rest_is_done(run: Run, world: World) -> None:
    add(world, "globex")
    world.provider.state.remove_webhook(world.store.all()[0].opencard_webhook_id or 0)
    result = run("rotate-secret", "--all", "--json")
    assert result.exit_code == 1
    assert [each["organization_reference_id"] for each in json.loads(result.stdout)] == ["globex"]
    assert "organization acme: GET" in result.stderr
    assert rotating(world) == {"globex"}


def test_second_rotation_is_refused_unless_an_emergency(run: Run, world: World) -> None:
    run("rotate-secret")
    refused = run("rotate-secret")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "good until" in refused.stderr
    assert run("rotate-secret", "--overlap", "0").exit_code == 0
    assert rotating(world) == set()


# --- test -----------------------------------------------------------------------------------------------------------


def test_machines_get_one_document_and_nothing_else(run: Run, world: World) -> None:
    result = run("test", EVENT, "--timeout", "30", "--json", LOG_LEVEL="DEBUG")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    delivery = document.pop("delivery")
    received_at = datetime.fromisoformat(delivery.pop("received_at"))
    assert timedelta() <= datetime.now(UTC) - received_at < timedelta(minutes=1)
    assert delivery.pop("id") > 0
    assert delivery == {"event": EVENT, "version": "1", "verification": "signature+basic", "status": "ignored"}
    sent = example(EVENT, world.provider.state.organizations()[0], seed=world.registered_test().id).payload
    assert document.pop("payload") == json.loads(sent)
    assert json.loads(sent)["carbon_emission_in_grams"]
    assert document.pop("parsed") == {
        "event": EVENT,
        "organization_reference_id": "acme",
        "card_holder_reference_id": json.loads(sent)["card_holder"]["reference_id"],
        "transaction_id": json.loads(sent)["transaction"]["id"],
    }
    assert document == {
        "webhook_id": world.store.tests()[0].id,
        "organization_reference_id": "acme",
        "opencard_webhook_id": world.registered_test().id,
        "event": EVENT,
        "error": None,
    }
    assert world.provider.requests.scopes_used() == {"webhooks-read", "webhooks-write"}


def test_people_see_the_verdict_the_parsed_event_and_the_body(run: Run) -> None:
    result = run("test", EVENT, "--timeout", "30", "--organization", "acme")
    assert result.exit_code == 0, result.output
    shown = {name.strip(): value for name, _, value in (line.partition("  ") for line in result.stdout.splitlines())}
    assert shown["verified by"].strip() == "signature and basic credentials"
    assert "\nThe test passed: it was verified, and can be parsed as that event.\n" in result.stdout
    assert shown["organization"].strip() == "acme"
    assert "\n{\n  " in result.stdout
    assert '"carbon_emission_in_grams": ' in result.stdout


def test_other_spellings_are_accepted_and_sent_as_opencard_names(run: Run, world: World) -> None:
    result = run("test", "environmental_impact.deedster", "--timeout", "30", "--json")
    assert json.loads(result.stdout)["event"] == EVENT
    (asked,) = world.provider.requests.all(path="/test/")
    assert asked.path.endswith(f"/test/{EVENT}")


IMPOSSIBLE_TESTS = [
    (("card.transaction.clear",), 2, "no event 'card.transaction.clear'; the nearest is card.transaction.cleared"),
    (("Challenge",), 2, "there are card.transaction.authorized"),
    ((EVENT, "--organization", "acme", "--webhook", "1"), 2, "not both"),
    ((EVENT,), 2, "Give --organization REF or --webhook ID"),
    ((EVENT, "--organization", "acm"), 1, "the nearest is acme"),
    ((EVENT, "--webhook", "999999999"), 1, "there is no webhook 999999999"),
    ((EVENT, "--organization", "acme", "--timeout", "0"), 2, "--timeout"),
]


def test_mistake_is_reported_before_any_request(run: Run, world: World) -> None:
    add(world, "globex")
    for arguments, code, said in IMPOSSIBLE_TESTS:
        result = run("test", *arguments, "--json")
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert said in " ".join(result.stderr.split())
    assert world.provider.requests.all() == []


def test_several_webhooks_require_naming_one(run: Run, world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO receiver.webhooks (organization_id, organization_reference_id, endpoint_key, secret)"
                " SELECT organization_id, organization_reference_id, repeat('x', 43), secret FROM receiver.webhooks"
            )
        )
    result = run("test", EVENT, "--organization", "acme")
    assert result.exit_code == 2
    assert "several webhooks: give --webhook with one of" in " ".join(result.stderr.split())


def test_missing_test_delivery_fails_and_says_what_to_check(run: Run, world: World) -> None:
    world.provider.faults.add(ApiFault.answers(200, path="/test/", times=2))
    result = run("test", "card.transaction.cleared", "--timeout", "0.3", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["delivery"], document["parsed"], document["payload"]) == (None, None, None)
    assert "no test delivery arrived within 0.3 s" in document["error"]
    said = run("test", "card.transaction.cleared", "--timeout", "0.3")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "no test delivery arrived" in said.stderr
