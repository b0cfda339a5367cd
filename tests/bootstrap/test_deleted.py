"""Organizations and webhooks that were deleted at OpenCard: found by listing, reported once, and left in peace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner
from sqlalchemy import text

from receiver.cli import main
from receiver.ops.status import read_status
from receiver.sandbox.provider import ApiFault
from tests.support.bootstrap_steps import reconciled

if TYPE_CHECKING:
    from receiver.ops.status import ServiceStatus
    from tests.support.world import World

SKIP = '[[organizations]]\nreference_id = "acme"\nskip = true'


def service_status(world: World) -> ServiceStatus:
    with world.engine.connect() as connection:
        return read_status(lambda query: [*map(dict, connection.execute(text(query)).mappings())])


def test_deleted_organization_is_reported_once(world: World) -> None:
    world.add_organizations("globex")
    world.bootstrap()
    assert reconciled(world) == ["acme", "globex"]
    [acme] = [each for each in world.provider.state.organizations() if each.reference_id == "acme"]
    world.provider.state.remove_organization(acme.id)
    result = world.bootstrap()
    [deleted] = result.deleted
    assert (deleted.organization_reference_id, deleted.organization_deleted) == ("acme", True)
    assert (result.failures, result.drift) == ([], False)
    assert world.bootstrap().deleted == []
    assert reconciled(world) == ["globex"]
    assert [each.organization_reference_id for each in service_status(world).webhooks] == ["globex"]
    assert service_status(world).unserved == ()


def test_deleted_webhook_is_created_again(world: World) -> None:
    world.bootstrap()
    world.provider.state.remove_tpa(world.registered().organization_id)
    result = world.bootstrap()
    assert [change.action for _, change in result.changes] == ["create"]
    assert (world.registered().active, world.stored().deleted) == (True, False)
    assert reconciled(world) == ["acme"]


def test_deleted_left_out_organization_is_reported_once(world: World) -> None:
    world.bootstrap()
    world.provider.state.remove_webhook(world.registered().id)
    assert [each.organization_deleted for each in world.bootstrap(SKIP).deleted] == [False]
    assert world.bootstrap(SKIP).deleted == []
    assert reconciled(world) == []
    assert service_status(world).unserved == ()


def test_webhook_missing_only_in_a_list_is_not_deleted(world: World) -> None:
    world.bootstrap()
    organization = world.provider.state.organization(world.registered().organization_id)
    world.provider.state.change_organization(organization.id, account_id=2)
    world.provider.faults.add(ApiFault.answers(403, path="/webhooks/", times=9))
    assert world.bootstrap().deleted == []
    world.provider.state.change_organization(organization.id, account_id=1)
    world.provider.faults.clear()
    assert reconciled(world) == ["acme"]


def test_dry_run_marks_nothing_as_deleted(world: World) -> None:
    world.bootstrap()
    world.provider.state.remove_organization(world.registered().organization_id)
    assert len(world.bootstrap(write=False).deleted) == 1
    assert not world.stored().deleted
    assert len(world.bootstrap().deleted) == 1


def test_deletion_is_in_text_and_json(world: World, environment: dict[str, str]) -> None:
    world.bootstrap()
    world.provider.state.remove_organization(world.registered().organization_id)
    runner = CliRunner(env=world.environment(environment))
    ended = runner.invoke(main, ["bootstrap"])
    assert (ended.exit_code, "its organization was deleted at OpenCard" in ended.stdout) == (0, True)
    shown = runner.invoke(main, ["webhooks", "show", str(world.stored().id)])
    assert "deleted_at" in shown.stdout
    doctor = runner.invoke(main, ["doctor"])
    assert "deleted at OpenCard, as receiver bootstrap found" in doctor.stdout
