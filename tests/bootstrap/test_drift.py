"""Changes made at OpenCard: each kind of drift is found, named and corrected."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from receiver.bootstrap.endpoint import challenge_endpoint
from receiver.cli import main
from receiver.sandbox.provider import ApiFault
from receiver.webhooks.addresses import endpoint_url
from tests.support.bootstrap_steps import deliver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.world import World

CONFIGURATION = """
groups = ["5561234567", "5567654321"]
[headers]
X-Environment = "test"
X-Token = "the-token"
"""


def header_id(world: World, key: str) -> int:
    return next(header.id for header in world.registered().headers if header.key == key)


def group_id(world: World, party: str) -> int:
    return next(group.id for group in world.registered().groups if group.buyer_party == party)


def change(**fields: Any) -> Callable[[World], object]:
    return lambda world: world.provider.state.change_webhook(world.registered().id, **fields)


def switch(event: str, *, on: bool) -> Callable[[World], object]:
    return lambda world: world.provider.state.switch_event(world.registered().id, event, on=on)


def without_header(world: World) -> None:
    world.provider.state.remove_header(world.registered().id, header_id(world, "X-Token"))


def another_value(world: World) -> None:
    without_header(world)
    world.provider.state.add_header(world.registered().id, "X-Token", "another")


def without_group(world: World) -> None:
    world.provider.state.remove_group(world.registered().id, group_id(world, "5561234567"))


DRIFTS: dict[str, tuple[Callable[[World], object], str, str]] = {
    "a flag that is off": (switch("card.transaction.cleared", on=False), "update", "card_transaction_cleared"),
    "another url": (change(url="https://elsewhere.example/"), "update", "url"),
    "disabled": (change(enabled=False), "update", "enabled"),
    "inactive": (change(active=False), "challenge", "active"),
    "another authentication": (
        change(authentication_type="none", basic_username=None, basic_password=None),
        "update",
        "authentication_type",
    ),
    "another user name": (change(basic_username="somebody"), "update", "basic_username"),
    "a header that is gone": (without_header, "add-header", "headers.X-Token"),
    "a header with another value": (another_value, "replace-header", "headers.X-Token"),
    "a group that is gone": (without_group, "add-group", "groups"),
}


@pytest.fixture
def run(world: World, environment: dict[str, str], folder: Path) -> Callable[..., Result]:
    """Runs ``receiver bootstrap`` with the configuration."""
    (folder / "webhooks.toml").write_text(CONFIGURATION)
    runner = CliRunner(env=world.environment(environment))
    return lambda *arguments: runner.invoke(main, ["bootstrap", *arguments])


@pytest.mark.parametrize(("make", "action", "field"), DRIFTS.values(), ids=DRIFTS.keys())
def test_check_reports_each_kind_of_drift_and_run_corrects_it(
    world: World, run: Callable[..., Result], make: Callable[[World], object], action: str, field: str
) -> None:
    assert run().exit_code == 0
    assert run("--check").exit_code == 0
    as_it_was = world.registered()
    make(world)
    changed = world.registered()

    checked = run("--check", "--json")
    shown = json.loads(checked.stdout)
    assert (checked.exit_code, shown["drift"]) == (1, True)
    (change,) = shown["changes"]
    assert (change["action"], change["organization_reference_id"]) == (action, "acme")
    assert [difference["field"] for difference in change["differences"]] == [field]
    assert "the-token" not in checked.output
    assert world.registered() == changed  # a check changes nothing

    for_people = run("--check")
    assert for_people.exit_code == 1
    assert field in for_people.stdout
    assert run("--dry-run").exit_code == 0

    repeated = run("--json")
    assert (repeated.exit_code, json.loads(repeated.stdout)["drift"]) == (0, False)
    assert run("--check").exit_code == 0
    now = world.registered()
    assert (now.flags, now.enabled, now.active) == (as_it_was.flags, True, True)
    assert {h.key: h.value for h in now.headers} == {h.key: h.value for h in as_it_was.headers}
    assert {g.buyer_party for g in now.groups} == {g.buyer_party for g in as_it_was.groups}
    assert now.url == endpoint_url(world.public_url, world.stored().endpoint_key)
    assert deliver(world) == 200


def test_extra_headers_and_groups_are_removed_only_by_prune(world: World, run: Callable[..., Result]) -> None:
    run()
    webhook = world.registered()
    world.provider.state.add_header(webhook.id, "X-Odd", "1")
    world.provider.state.add_group(webhook.id, "5500000000")
    assert run("--check").exit_code == 0
    checked = run("--check", "--prune", "--json")
    assert checked.exit_code == 1
    assert [change["action"] for change in json.loads(checked.stdout)["changes"]] == ["remove-header", "remove-group"]
    assert run("--prune").exit_code == 0
    assert "X-Odd" not in {header.key for header in world.registered().headers}
    assert "5500000000" not in {group.buyer_party for group in world.registered().groups}
    assert run("--check", "--prune").exit_code == 0


def test_left_out_organization_is_disabled_only_by_prune(
    world: World, run: Callable[..., Result], folder: Path
) -> None:
    run()
    (folder / "webhooks.toml").write_text('[[organizations]]\nreference_id = "acme"\nskip = true\n')
    assert (run("--json").exit_code, world.registered().enabled) == (0, True)
    pruned = run("--prune", "--json")
    assert [change["action"] for change in json.loads(pruned.stdout)["changes"]] == ["disable"]
    assert not world.registered().enabled
    assert json.loads(run("--prune", "--json").stdout)["changes"] == []


def test_unreported_header_values_are_those_registered(world: World, run: Callable[..., Result], folder: Path) -> None:
    world.provider.behaviour.hides_header_values = True
    run()
    assert run("--check").exit_code == 0
    (folder / "webhooks.toml").write_text(CONFIGURATION.replace("the-token", "a-new-token"))
    checked = run("--check", "--json")
    assert (checked.exit_code, "a-new-token" in checked.output) == (1, False)
    assert run().exit_code == 0
    assert "a-new-token" in {header.value for header in world.registered().headers}
    assert run("--check").exit_code == 0


def test_changed_credentials_overlap_with_the_old_ones(world: World, run: Callable[..., Result], folder: Path) -> None:
    run()
    before = world.registered()
    (folder / "webhooks.toml").write_text('basic_username = "acme"\nbasic_password = "the-new-password"\n')
    checked = run("--check", "--json")
    assert checked.exit_code == 1
    assert {each["field"] for each in json.loads(checked.stdout)["changes"][0]["differences"]} == {
        "basic_username",
        "basic_password",
    }
    assert "the-new-password" not in checked.output
    assert run().exit_code == 0
    now = world.registered()
    assert (now.basic_username, now.basic_password) == ("acme", "the-new-password")
    assert deliver(world) == 200
    world.provider.state.change_webhook(
        now.id, basic_username=before.basic_username, basic_password=before.basic_password
    )
    assert deliver(world) == 200  # what was under way when they were replaced


def test_inactive_webhook_gets_a_new_url_and_keeps_the_old(world: World) -> None:
    world.bootstrap()
    old = world.stored()
    world.provider.state.change_webhook(world.registered().id, active=False)
    # OpenCard's challenge fails once more: the PUT is carried out, but the web process is out of its reach
    world.provider.faults.add(ApiFault("hang-up-before", path="/webhooks/[0-9]+$", method="PUT", times=100))
    assert len(world.bootstrap().failures) == 1
    world.provider.faults.clear()
    waiting = world.stored()
    assert waiting.endpoint_key != old.endpoint_key
    assert waiting.previous_keys == (old.endpoint_key,)
    for key in (old.endpoint_key, waiting.endpoint_key):
        assert challenge_endpoint(endpoint_url(world.public_url, key), old.secret) is None

    assert world.bootstrap().failures == []
    now = world.stored()
    assert (now.endpoint_key, now.previous_keys, now.active) == (waiting.endpoint_key, (), True)
    assert world.registered().url == endpoint_url(world.public_url, now.endpoint_key)
    refused = challenge_endpoint(endpoint_url(world.public_url, old.endpoint_key), old.secret)
    assert refused is not None
    assert "404" in refused


def test_challenge_failing_at_our_endpoint_is_reported(world: World) -> None:
    real, world.public_url = world.public_url, "http://127.0.0.1:1"
    (failure,) = world.bootstrap().failures
    assert "is not active, and its endpoint fails: through PUBLIC_URL, the challenge GET http://127" in failure.error
    tried = re.search(r"GET (\S+)\?challenge=([A-Za-z0-9]{20}) fails: no answer", failure.error)
    assert tried is not None
    assert tried[1] == endpoint_url("http://127.0.0.1:1", world.stored().endpoint_key)
    before = world.stored()
    assert before.active is False
    assert before.previous_keys == ()  # a new URL would not help yet
    world.public_url = real
    assert world.bootstrap().failures == []
    assert world.stored().active
    assert deliver(world) == 200


def test_challenge_failing_only_at_opencard_is_repeated_later(world: World) -> None:
    world.provider.behaviour.challenges_arrive = False
    (failure,) = world.bootstrap().failures
    assert "though its endpoint answers the challenge" in failure.error
    assert f"can OpenCard reach {endpoint_url(world.public_url, world.stored().endpoint_key)} from" in failure.error
    assert len(world.provider.state.webhooks()) == 1
    world.provider.behaviour.challenges_arrive = True
    assert world.bootstrap().failures == []
    assert world.registered().active
    assert world.stored().previous_keys == ()
    assert deliver(world) == 200


def test_corrected_url_with_failing_challenge_is_reported(world: World) -> None:
    world.bootstrap()
    world.provider.state.change_webhook(world.registered().id, url="https://elsewhere.example/")
    world.provider.behaviour.challenges_arrive = False
    (failure,) = world.bootstrap().failures
    assert "though its endpoint answers the challenge" in failure.error
    world.provider.behaviour.challenges_arrive = True
    assert world.bootstrap().failures == []
    assert world.registered().active
    assert deliver(world) == 200


def test_new_public_url_is_registered_on_the_same_webhooks(world: World, public_url: str) -> None:
    world.bootstrap()
    before = world.registered()
    world.public_url = public_url.replace("127.0.0.1", "localhost")
    result = world.bootstrap()
    assert [change.action for _, change in result.changes] == ["update"]
    now = world.registered()
    assert now == replace(before, url=now.url)
    assert now.url.startswith("http://localhost:")
    assert now.active
