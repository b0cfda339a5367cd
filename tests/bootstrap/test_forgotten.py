"""OpenCard has lost all webhooks, like a sandbox that was restarted, while the database was kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.bootstrap.match import ALL_DELETED
from receiver.cli import main
from receiver.webhooks.addresses import endpoint_url
from tests.support.bootstrap_steps import reconciled
from tests.support.log_lines import logging_as_it_was
from tests.support.world import world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result
    from sqlalchemy import Engine

    from receiver.settings import Settings
    from tests.support.world import World

REFERENCES = ("acme", "beta", "globex")


@pytest.fixture
def fresh_opencard(world: World, engine: Engine, settings: Settings, public_url: str) -> Iterator[World]:
    """Another OpenCard, without any webhook, with the database of the first, where globex was registered first."""
    world.add_organizations("beta", "globex")
    world.bootstrap(only=("globex",))
    world.bootstrap()
    with world_of(engine, settings, public_url) as fresh_opencard:
        yield fresh_opencard


def run(world: World, environment: dict[str, str], *arguments: str) -> Result:
    with logging_as_it_was():
        result = CliRunner(env=world.environment(environment)).invoke(main, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def ids(world: World) -> dict[str, int | None]:
    return {webhook.organization_reference_id: webhook.opencard_webhook_id for webhook in world.store.all()}


@pytest.mark.parametrize("parallelism", [1, 8])
def test_everything_is_registered_again(fresh_opencard: World, parallelism: int) -> None:
    before = ids(fresh_opencard)
    fresh_opencard.add_organizations(*REFERENCES)
    result = fresh_opencard.bootstrap(parallelism=parallelism)
    assert (result.failures, result.all_deleted) == ([], 3)
    assert set(ids(fresh_opencard).values()) == set(before.values()), "the ids start from 1 again"
    assert parallelism > 1 or ids(fresh_opencard)["acme"] == before["globex"]
    assert [webhook.active for webhook in fresh_opencard.provider.state.webhooks()] == [True] * 3
    assert [webhook.deleted for webhook in fresh_opencard.store.all()] == [False] * 3
    again = fresh_opencard.bootstrap()
    assert (again.changes, again.deleted, again.all_deleted, again.drift) == ([], [], 0, False)
    assert reconciled(fresh_opencard) == list(REFERENCES)


def test_commands_report_cause_and_remedy(fresh_opencard: World, environment: dict[str, str]) -> None:
    fresh_opencard.add_organizations(*REFERENCES)
    doctor = run(fresh_opencard, environment, "doctor")
    assert f"{ALL_DELETED}: none of 3 is there. Run receiver bootstrap" in doctor.stdout
    planned = run(fresh_opencard, environment, "bootstrap", "--dry-run")
    assert f"{ALL_DELETED}: none of 3 webhooks is there." in planned.stderr
    assert "would be registered again" in planned.stderr
    done = run(fresh_opencard, environment, "bootstrap", "--json")
    assert (done.exit_code, json.loads(done.stdout)["forgotten"]) == (0, 3)
    assert ALL_DELETED not in run(fresh_opencard, environment, "bootstrap").output
    assert ALL_DELETED not in run(fresh_opencard, environment, "doctor").output


def test_conflicting_organizations_are_reported_with_the_remedy(
    fresh_opencard: World, environment: dict[str, str]
) -> None:
    fresh_opencard.add_organizations("org-001", "org-002", "org-003")
    for _ in range(2):
        result = run(fresh_opencard, environment, "bootstrap")
        assert result.exit_code == 1
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("organization org-001: ")]
        assert line.startswith(f"organization org-001: {ALL_DELETED}: webhook ")
        assert "is managed for 'acme', but the organization is called 'org-001' now, without that webhook." in line
        assert "empty database (DATABASE_URL), or the organizations of before (--organization acme)" in line


def test_webhook_of_an_interrupted_run_is_found(fresh_opencard: World) -> None:
    fresh_opencard.add_organizations(*REFERENCES)
    (beta,) = [row for row in fresh_opencard.store.all() if row.organization_reference_id == "beta"]
    url = endpoint_url(fresh_opencard.public_url, beta.endpoint_key)
    made = fresh_opencard.provider.state.add_webhook(beta.organization_id, url, secret=beta.secret, active=True)
    assert made.id == ids(fresh_opencard)["globex"]
    assert fresh_opencard.bootstrap().failures == []
    assert ids(fresh_opencard)["beta"] == made.id
    assert len(fresh_opencard.provider.state.webhooks()) == 3


def test_one_deleted_webhook_of_several_is_not_all_deleted(world: World) -> None:
    world.add_organizations("globex")
    world.bootstrap()
    world.provider.state.remove_webhook(world.provider.state.webhooks()[0].id)
    result = world.bootstrap()
    assert (result.failures, result.all_deleted, len(result.changes)) == ([], 0, 1)
