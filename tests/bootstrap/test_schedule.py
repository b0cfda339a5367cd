"""The scheduler applies again what an operator applied: new organizations get their webhooks by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from receiver.bootstrap.applied import AppliedConfigurations
from receiver.bootstrap.concurrency import one_at_a_time
from receiver.bootstrap.desired import ALL_EVENTS, Configuration
from receiver.bootstrap.schedule import bootstrap_due
from receiver.cli import main
from receiver.encryption import Encryption
from receiver.sandbox.provider import ApiFault
from tests.support.world import configured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.world import World

CONFIGURATION = """
[headers]
X-Token = { env = "TOKEN" }
[[organizations]]
reference_id = "initech"
skip = true
"""


@pytest.fixture
def due(world: World, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Runs the job as a worker does, as if its interval had passed."""
    for name, value in world.environment(environment).items():
        monkeypatch.setenv(name, value)

    def run() -> None:
        with world.engine.begin() as connection:
            connection.execute(text("UPDATE receiver.applied_configuration SET started_at = now() - interval '1 day'"))
        bootstrap_due()

    return run


def applied(world: World) -> AppliedConfigurations:
    return AppliedConfigurations(world.engine, Encryption(world.settings.encryption_keys))


def organizations_served(world: World) -> set[str]:
    state = world.provider.state
    return {state.organization(webhook.organization_id).reference_id for webhook in state.webhooks() if webhook.active}


def test_new_organization_gets_the_configured_webhook(world: World, due: Callable[[], None]) -> None:
    world.bootstrap(CONFIGURATION, {"TOKEN": "the-token"})
    world.add_organizations("globex", "initech")
    due()
    assert organizations_served(world) == {"acme", "globex"}
    assert [header.value for webhook in world.provider.state.webhooks() for header in webhook.headers] == [
        "the-token",
        "the-token",
    ]


def test_configuration_is_due_once_per_interval(world: World) -> None:
    world.bootstrap()
    hour = timedelta(hours=1)
    assert not applied(world).claim_due(hour)
    for moment in ("now() - interval '1 hour'", "now() + interval '1 hour'"):  # the latter: the clock was set back
        with world.engine.begin() as connection:
            connection.execute(text(f"UPDATE receiver.applied_configuration SET started_at = {moment}"))  # noqa: S608
        assert applied(world).claim_due(hour)
        assert not applied(world).claim_due(hour)


def test_scheduler_applies_the_configuration_stored_at_its_start(
    world: World, due: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bootstrap()
    world.add_organizations("globex")
    claim_due = AppliedConfigurations.claim_due

    def overtaken(self: AppliedConfigurations, interval: timedelta) -> bool:
        taken = claim_due(self, interval)
        self.save(configured('[[organizations]]\nreference_id = "globex"\nskip = true'))
        return taken

    monkeypatch.setattr(AppliedConfigurations, "claim_due", overtaken)
    due()
    assert organizations_served(world) == {"acme"}


def test_scheduler_run_does_not_store_a_configuration(world: World, due: Callable[[], None]) -> None:
    def applied_at() -> object:
        with world.engine.connect() as connection:
            return connection.scalar(text("SELECT applied_at FROM receiver.applied_configuration"))

    world.bootstrap()
    before = applied_at()
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.applied_configuration SET error = 'the run before failed'"))
    due()
    assert applied_at() == before


def test_scheduler_waits_for_the_first_run_of_an_operator(world: World, due: Callable[[], None]) -> None:
    due()
    assert world.provider.requests.all() == []


@pytest.mark.parametrize("options", [{"write": False}, {"only": ("acme",)}], ids=["a dry run", "some organizations"])
def test_only_a_writing_run_over_all_is_applied_again(world: World, options: dict[str, Any]) -> None:
    world.bootstrap(**options)
    assert applied(world).load() is None


def test_configuration_is_applied_once_per_interval(world: World, due: Callable[[], None]) -> None:
    world.bootstrap()
    world.add_organizations("globex")
    bootstrap_due()
    assert organizations_served(world) == {"acme"}
    due()
    world.provider.requests.clear()
    bootstrap_due()
    assert organizations_served(world) == {"acme", "globex"}
    assert world.provider.requests.all() == []


def test_scheduler_never_prunes(world: World, due: Callable[[], None]) -> None:
    world.bootstrap(prune=True)
    world.provider.state.add_header(world.registered().id, "X-Odd", "1")
    due()
    assert len(world.registered().headers) == 1


def test_interval_of_0_turns_the_scheduler_off(
    world: World, due: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bootstrap()
    world.add_organizations("globex")
    monkeypatch.setenv("BOOTSTRAP_INTERVAL", "0")
    due()
    assert organizations_served(world) == {"acme"}


def test_scheduler_waits_for_a_running_command(world: World, due: Callable[[], None]) -> None:
    world.bootstrap()
    world.add_organizations("globex")
    with one_at_a_time(world.engine):
        due()
    assert organizations_served(world) == {"acme"}
    due()
    assert organizations_served(world) == {"acme", "globex"}


def test_failure_is_logged_once_and_shown_by_status(
    world: World, due: Callable[[], None], environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    world.bootstrap()
    world.provider.faults.add(ApiFault.answers(404, path="/accounts/1/organizations$", times=99))
    capsys.readouterr()
    due()
    due()
    assert capsys.readouterr().err.count("bootstrap.failed") == 1
    runner = CliRunner(env=world.environment(environment))
    said = runner.invoke(main, ["status"])
    assert (
        said.exit_code,
        "bootstrap: the scheduler's last run failed: GET /api/v1/application/accounts/1/" in said.stderr,
    ) == (1, True)
    world.provider.faults.clear()
    due()
    assert "bootstrap:" not in runner.invoke(main, ["status"]).stderr


def test_failure_of_an_organization_is_logged_once(
    world: World, due: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    world.bootstrap()
    world.add_organizations("globex")
    world.provider.faults.add(ApiFault.answers(422, method="POST", path="/webhooks$", times=99))
    capsys.readouterr()
    due()
    due()
    assert capsys.readouterr().err.count("bootstrap.failed") == 1


def test_configuration_is_stored_encrypted_and_complete(world: World) -> None:
    configuration = configured(
        'events = ["card.transaction.cleared"]\n[headers]\nX-Token = "the-token"\n'
        '[[organizations]]\nreference_id = "acme"\nauthentication_type = "custom"\ncustom_value = "the-value"\n'
        '[[organizations]]\nreference_id = "globex"\nskip = true'
    )
    applied(world).save(configuration)
    assert applied(world).load() == configuration
    with world.engine.connect() as connection:
        stored = connection.scalar(text("SELECT configuration FROM receiver.applied_configuration"))
    assert b"the-token" not in stored


def test_all_events_means_all_of_the_current_release() -> None:
    older = Configuration().as_json().replace('"invoice.created",', "")
    fewer = older.replace('"receipt.fetched",', "").replace(',"receipt.fetched"', "")
    assert "receipt.fetched" not in fewer
    assert Configuration.from_json(fewer).defaults.events == ALL_EVENTS


def test_only_one_process_claims_a_due_run(world: World) -> None:
    world.bootstrap()
    assert applied(world).claim_due(timedelta(seconds=0))
    assert not applied(world).claim_due(timedelta(hours=1))
