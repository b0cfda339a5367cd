"""A test webhook is seen by nothing that manages, checks or reconciles webhooks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.bootstrap.rotation import Rotation
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.opencard.auth import Access
from receiver.ops.status import find, read_status
from receiver.reconcile.run import Reconciler
from receiver.reconcile.schedule import run_due
from tests.support.sending import send

if TYPE_CHECKING:
    from receiver.ops.status import ServiceStatus
    from tests.support.world import World

SKIP = '[[organizations]]\nreference_id = "acme"\nskip = true'


@pytest.fixture
def tested(world: World) -> World:
    """Acme's webhook is registered, and was tested once."""
    assert world.bootstrap().failures == []
    assert send(world).error is None
    world.provider.requests.clear()
    return world


def access(world: World) -> Access:
    return Access(world.api_url, "1", world.client.id, world.client.secret)


def service_status(world: World) -> ServiceStatus:
    with world.engine.connect() as connection:
        return read_status(lambda query: [*map(dict, connection.execute(text(query)).mappings())])


def reconciler(world: World) -> Reconciler:
    encryption = Encryption(world.settings.encryption_keys)
    return Reconciler(world.engine, encryption, access(world), grace=timedelta(minutes=15))


@pytest.mark.parametrize("change", [{}, {"enabled": True}, {"active": False, "url": "https://elsewhere.example/"}])
@pytest.mark.parametrize("prune", [False, True])
def test_test_webhook_is_neither_drift_nor_surplus(tested: World, change: dict[str, object], *, prune: bool) -> None:
    tested.provider.state.change_webhook(tested.registered_test().id, **change)
    before = tested.registered_test()
    for write in (False, True):
        result = tested.bootstrap(prune=prune, write=write)
        assert (result.changes, result.failures, result.deleted, result.drift) == ([], [], [], False)
    assert tested.registered_test() == before
    assert tested.writes() == []


def test_test_webhook_is_not_matched_as_the_main_one(tested: World) -> None:
    tested.provider.state.change_webhook(tested.registered_test().id, enabled=True)
    before, own = tested.registered_test(), tested.registered()
    tested.provider.state.remove_webhook(own.id)
    assert [change.action.value for _, change in tested.bootstrap().changes] == ["create"]
    assert tested.registered_test() == before
    assert tested.registered().id not in (own.id, before.id)


def test_prune_keeps_the_test_webhook(tested: World) -> None:
    [(_, change)] = tested.bootstrap(SKIP, prune=True).changes
    assert (change.action.value, change.opencard_webhook_id) == ("disable", tested.registered().id)


def test_deleted_organization_report_omits_the_test_webhook(tested: World) -> None:
    [organization] = tested.provider.state.organizations()
    tested.provider.state.remove_organization(organization.id)
    assert [each.webhook_id for each in tested.bootstrap().deleted] == [tested.stored().id]


def test_test_webhook_alone_counts_as_no_webhook(tested: World) -> None:
    assert service_status(tested).unserved == ()
    with tested.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.webhooks SET deleted_at = now() WHERE NOT test"))
    [unserved] = service_status(tested).unserved
    assert (unserved.organization_reference_id, unserved.has_webhook) == ("acme", False)


def test_status_omits_test_webhooks_and_their_deliveries(tested: World) -> None:
    with tested.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.webhooks SET active = false WHERE test"))
    assert [webhook.webhook_id for webhook in service_status(tested).webhooks] == [tested.stored().id]
    assert list(find(service_status(tested), interval=timedelta(minutes=5))) == []


def test_log_of_a_test_webhook_is_not_reconciled(tested: World) -> None:
    own, (test,) = tested.stored(), tested.store.tests()
    assert [outcome.webhook_id for outcome in reconciler(tested).run()] == [own.id]
    with pytest.raises(OperationRefused, match=rf"webhook {test.id}: unknown here, .* or a test webhook"):
        reconciler(tested).run([test.id])
    with tested.engine.connect() as connection:
        for table in ("reconcile_runs", "reconcile_state", "delivery_gaps_by_hour"):
            ids = connection.scalars(text(f"SELECT DISTINCT webhook_id FROM receiver.{table}")).all()  # noqa: S608
            assert ids == [own.id]
    assert tested.provider.requests.all(path=f"/webhooks/{test.opencard_webhook_id}/events") == []


def test_test_webhook_does_not_delay_the_schedule(tested: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.reconcile.schedule.BATCH_SIZE", 1)
    reconciler(tested).run()
    with tested.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.reconcile_runs SET started_at = started_at - interval '1 hour'"))
    run_due(tested.engine, reconciler(tested), interval=timedelta(minutes=5), wake=lambda: None)
    with tested.engine.connect() as connection:
        ids = connection.scalars(text("SELECT webhook_id FROM receiver.reconcile_runs")).all()
    assert ids == 2 * [tested.stored().id]


def test_secrets_of_test_webhooks_are_not_rotated(tested: World) -> None:
    own, (test,) = tested.stored(), tested.store.tests()
    encryption = Encryption(tested.settings.encryption_keys)
    rotation = Rotation(tested.engine, encryption, access(tested), tested.public_url)
    rotation.run([webhook.id for webhook in tested.store.all()], overlap=timedelta(hours=1))
    assert tested.stored().secret != own.secret
    assert tested.store.tests() == [test]
