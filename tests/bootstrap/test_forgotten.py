"""OpenCard has forgotten everything, as a sandbox has that is started anew, while the database was kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.bootstrap.match import FORGOTTEN
from receiver.cli import main
from receiver.webhooks.addresses import endpoint_url
from tests.bootstrap.test_deleted import reconciled
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
def anew(world: World, engine: Engine, settings: Settings, public_url: str) -> Iterator[World]:
    """Another OpenCard, without any webhook, beside the database of the first, where globex was registered first."""
    world.add_organizations("beta", "globex")
    world.bootstrap(only=("globex",))
    world.bootstrap()
    with world_of(engine, settings, public_url) as anew:
        yield anew


def run(world: World, environment: dict[str, str], *arguments: str) -> Result:
    with logging_as_it_was():
        result = CliRunner(env=world.environment(environment)).invoke(main, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def ids(world: World) -> dict[str, int | None]:
    return {webhook.organization_reference_id: webhook.opencard_webhook_id for webhook in world.store.all()}


@pytest.mark.parametrize("side_by_side", [1, 8])
def test_everything_is_registered_anew(anew: World, side_by_side: int) -> None:
    before = ids(anew)
    anew.add_organizations(*REFERENCES)
    result = anew.bootstrap(side_by_side=side_by_side)
    assert (result.failures, result.forgotten) == ([], 3)
    assert set(ids(anew).values()) == set(before.values()), "the ids began anew"
    assert side_by_side > 1 or ids(anew)["acme"] == before["globex"]
    assert [webhook.active for webhook in anew.provider.state.webhooks()] == [True] * 3
    assert [webhook.deleted for webhook in anew.store.all()] == [False] * 3
    again = anew.bootstrap()
    assert (again.changes, again.deleted, again.forgotten, again.drift) == ([], [], 0, False)
    assert reconciled(anew) == list(REFERENCES)


def test_commands_say_what_happened_and_what_to_do(anew: World, environment: dict[str, str]) -> None:
    anew.add_organizations(*REFERENCES)
    doctor = run(anew, environment, "doctor")
    assert f"{FORGOTTEN}: none of 3 is there. Run receiver bootstrap" in doctor.stdout
    planned = run(anew, environment, "bootstrap", "--dry-run")
    assert f"{FORGOTTEN}: none of 3 webhooks is there." in planned.stderr
    assert "would be registered anew" in planned.stderr
    done = run(anew, environment, "bootstrap", "--json")
    assert (done.exit_code, json.loads(done.stdout)["forgotten"]) == (0, 3)
    assert FORGOTTEN not in run(anew, environment, "bootstrap").output
    assert FORGOTTEN not in run(anew, environment, "doctor").output


def test_other_organizations_get_a_clear_line_and_a_way_out(anew: World, environment: dict[str, str]) -> None:
    anew.add_organizations("org-001", "org-002", "org-003")
    for _ in range(2):
        result = run(anew, environment, "bootstrap")
        assert result.exit_code == 1
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("organization org-001: ")]
        assert line.startswith(f"organization org-001: {FORGOTTEN}: webhook ")
        assert "is managed for 'acme', but the organization is called 'org-001' now, without that webhook." in line
        assert "empty database (DATABASE_URL), or the organizations of before (--organization acme)" in line


def test_one_that_was_registered_before_a_run_was_cut_off_is_found(anew: World) -> None:
    anew.add_organizations(*REFERENCES)
    (beta,) = [row for row in anew.store.all() if row.organization_reference_id == "beta"]
    url = endpoint_url(anew.public_url, beta.endpoint_key)
    made = anew.provider.state.add_webhook(beta.organization_id, url, secret=beta.secret, active=True)
    assert made.id == ids(anew)["globex"]
    assert anew.bootstrap().failures == []
    assert ids(anew)["beta"] == made.id
    assert len(anew.provider.state.webhooks()) == 3


def test_one_deleted_webhook_of_several_is_no_such_case(world: World) -> None:
    world.add_organizations("globex")
    world.bootstrap()
    world.provider.state.remove_webhook(world.provider.state.webhooks()[0].id)
    result = world.bootstrap()
    assert (result.failures, result.forgotten, len(result.changes)) == ([], 0, 1)
