"""Each organization gets the events that its billing allows, and is never left without a webhook over a flag."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
from sqlalchemy import text

from receiver.bootstrap.organizations import OrganizationStore
from receiver.sandbox.provider import RECOMMENDED
from receiver.sandbox.provider.billing import NOT_DOCUMENTED, ORDINARY, PRODUCTS, BillingStyle, Rejection
from tests.support.bootstrap_steps import FLAGS, FREE, allowed, rotate
from tests.support.world import world_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.bootstrap.flags import UnavailableFlag
    from receiver.bootstrap.run import BootstrapResult
    from receiver.settings import Settings
    from tests.support.world import World

COMBINATIONS = [frozenset(some) for number in range(4) for some in combinations(PRODUCTS, number)]
GATED = {"transaction_line_items": "product_digital_receipt", "deedster": "product_aland_index"}


def products_of(world: World, organization_id: int) -> frozenset[str] | None:
    billing_id = world.provider.state.organization(organization_id).billing_id
    return None if billing_id is None else world.provider.state.billing(billing_id).products


def age_rejections(world: World, days: float) -> None:
    """Let what was rejected have been rejected so many days earlier."""
    store = OrganizationStore(world.engine)
    known = store.all()
    aged = [
        replace(each, unavailable={flag: _aged(why, days) for flag, why in each.unavailable.items()})
        for each in known.values()
    ]
    store.save(aged, known)


def _aged(why: UnavailableFlag, days: float) -> UnavailableFlag:
    if why.rejected_at is None:
        return why
    return msgspec.structs.replace(why, rejected_at=why.rejected_at - timedelta(days=days))


@contextmanager
def account(
    engine: Engine, settings: Settings, public_url: str, *, scopes: tuple[str, ...] | None = None, **behaviour: Any
) -> Iterator[World]:
    with world_of(engine, settings, public_url, **behaviour) as world:
        if scopes is not None:
            world.provider.clients.set_scopes("ems", scopes)
        yield world


def check_each(world: World, undocumented: dict[str, str] | None = None) -> None:
    """Insist on one active webhook for each organization with exactly what it may have."""
    state = world.provider.state
    for organization in state.organizations():
        [webhook] = state.webhooks_of(organization.id)
        assert webhook.active, organization.reference_id
        assert webhook.flags == allowed(products_of(world, organization.id), undocumented), organization.reference_id


def check_quiet(world: World) -> BootstrapResult:
    """Insist on a run that writes nothing at OpenCard."""
    world.provider.requests.clear()
    result = world.bootstrap()
    assert world.writes() == []
    assert (result.changes, result.failures, result.drift) == ([], [], False)
    return result


@pytest.mark.parametrize("knows_billing", [True, False], ids=["reads billings", "learns from rejections"])
def test_fifty_organizations_get_what_each_may_have(
    engine: Engine, settings: Settings, public_url: str, *, knows_billing: bool
) -> None:
    scopes = (*RECOMMENDED, "billings-read") if knows_billing else RECOMMENDED
    with account(engine, settings, public_url, scopes=scopes, undocumented_need=GATED) as world:
        world.provider.state.add_organizations([f"org-{number:02}" for number in range(50)], [*COMBINATIONS, None])
        result = world.bootstrap()
        assert (result.failures, result.drift) == ([], False)
        check_each(world, GATED)
        again = check_quiet(world)
        assert {each.organization_reference_id for each in again.unavailable} == {
            each.organization_reference_id for each in result.unavailable
        }


@pytest.mark.parametrize("rejection", get_args(Rejection))
@pytest.mark.parametrize("products", [ORDINARY, frozenset(), None], ids=["ordinary", "no product", "no billing"])
def test_every_form_of_rejection_is_parsed(
    engine: Engine, settings: Settings, public_url: str, rejection: Rejection, products: frozenset[str] | None
) -> None:
    with account(engine, settings, public_url, scopes=RECOMMENDED, rejection=rejection) as world:
        world.provider.state.add_organizations(["acme"], [products])
        assert world.bootstrap().failures == []
        check_each(world)
        check_quiet(world)


@pytest.mark.parametrize("style", get_args(BillingStyle))
def test_billing_is_parsed_in_every_style(
    engine: Engine, settings: Settings, public_url: str, style: BillingStyle
) -> None:
    with account(engine, settings, public_url, billing_style=style) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        result = world.bootstrap()
        check_each(world)
        assert {each.status for each in world.provider.requests.all(method="POST", path="/api/")} == {201}
        [found] = [each for each in result.unavailable if "receipt_fetched" in each.flags]
        assert found.describe().startswith("receipts, VAT: not in this organization's billing")


def test_next_run_subscribes_to_a_product_switched_on(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        world.bootstrap()
        [organization] = world.provider.state.organizations()
        world.provider.state.change_billing(organization.billing_id or 0, PRODUCTS)
        planned = world.bootstrap(write=False)
        assert planned.drift
        result = world.bootstrap()
        assert {each.field for _, change in result.changes for each in change.differences} == FLAGS - allowed(ORDINARY)
        check_each(world)
        assert result.unavailable == []


def test_product_switched_off_later_keeps_its_flags(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url) as world:
        world.provider.state.add_organizations(["acme"], [frozenset(PRODUCTS)])
        world.bootstrap()
        [organization] = world.provider.state.organizations()
        world.provider.state.change_billing(organization.billing_id or 0, ORDINARY)
        check_quiet(world)
        [webhook] = world.provider.state.webhooks()
        world.provider.state.change_webhook(webhook.id, enabled=False)
        assert world.bootstrap().failures == []
        check_each(world)


def test_rejected_flag_is_not_requested_again_for_a_day(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url, scopes=RECOMMENDED) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        world.bootstrap()
        [organization] = world.provider.state.organizations()
        world.provider.state.change_billing(organization.billing_id or 0, PRODUCTS)
        check_quiet(world)
        world.provider.requests.clear()
        assert world.bootstrap(write=False).drift is False
        assert world.bootstrap(retry_rejected=True).unavailable == []
        check_each(world)


def test_rejected_flag_is_requested_again_after_a_day(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url, scopes=RECOMMENDED) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        world.bootstrap()
        age_rejections(world, days=1.1)
        assert world.bootstrap(write=False).drift is False, "a check asks for nothing, and finds no drift"
        world.provider.requests.clear()
        rejected = world.bootstrap()
        assert (rejected.changes, rejected.failures, rejected.drift) == ([], [], False)
        assert world.writes() != []
        check_quiet(world)
        [organization] = world.provider.state.organizations()
        world.provider.state.change_billing(organization.billing_id or 0, PRODUCTS)
        age_rejections(world, days=1.1)
        assert world.bootstrap().changes != []
        check_each(world)


def test_changed_billing_is_tried_at_once(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url, scopes=RECOMMENDED) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        world.bootstrap()
        [organization] = world.provider.state.organizations()
        world.provider.state.change_organization(
            organization.id, billing_id=world.provider.state.add_billing(PRODUCTS).id
        )
        world.bootstrap()
        check_each(world)


def test_explicit_unavailable_events_fail_with_the_reason(engine: Engine, settings: Settings, public_url: str) -> None:
    desired = 'events = ["card.transaction.cleared", "receipt.fetched"]'
    for scopes in (None, RECOMMENDED):
        with account(engine, settings, public_url, scopes=scopes) as world:
            world.provider.state.add_organizations(["acme"], [ORDINARY])
            for _ in range(2):
                result = world.bootstrap(desired)
                [failure] = result.failures
                assert failure.organization_reference_id == "acme"
                assert failure.error.startswith("receipts: ")
                assert result.drift
            [webhook] = world.provider.state.webhooks()
            assert (webhook.active, sorted(webhook.flags)) == (True, ["card_transaction_cleared"])
        with engine.begin() as connection:
            connection.execute(
                text("TRUNCATE receiver.webhooks, receiver.oauth_tokens, receiver.organizations CASCADE")
            )


def test_missing_billing_is_reported_with_the_remedy(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url) as world:
        world.provider.state.add_organizations(["acme"], [None])
        [found] = world.bootstrap().unavailable
        assert "assign one at OpenCard" in found.describe()
        assert set(found.flags) == FLAGS - FREE
        assert set(NOT_DOCUMENTED) <= set(found.flags)


def test_unknown_billing_id_tries_every_flag(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url, describes_organizations=False) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        world.bootstrap()
        check_each(world)
        check_quiet(world)


@pytest.mark.parametrize("status", [404, 405])
def test_unreadable_billings_stop_nothing(engine: Engine, settings: Settings, public_url: str, status: int) -> None:
    routes = frozenset(["/accounts/<int:account>/billings"])
    with account(engine, settings, public_url, routes_off=routes, route_off_status=status) as world:
        world.provider.state.add_organizations(["acme", "globex"], [ORDINARY, frozenset(PRODUCTS)])
        assert world.bootstrap().failures == []
        check_each(world)


def test_rotation_and_prune_work_with_a_product_switched_off(
    engine: Engine, settings: Settings, public_url: str
) -> None:
    with account(engine, settings, public_url) as world:
        world.provider.state.add_organizations(["acme"], [frozenset(PRODUCTS)])
        world.bootstrap()
        [organization] = world.provider.state.organizations()
        world.provider.state.change_billing(organization.billing_id or 0, ORDINARY)
        assert rotate(world).failures == []
        assert world.registered().secret == world.stored().secret
        assert world.registered().flags == allowed(ORDINARY)
        skipped = '[[organizations]]\nreference_id = "acme"\nskip = true'
        assert world.bootstrap(skipped, prune=True).failures == []
        assert world.registered().enabled is False


def test_the_time_of_a_rejection_is_aware(engine: Engine, settings: Settings, public_url: str) -> None:
    with account(engine, settings, public_url, scopes=RECOMMENDED) as world:
        world.provider.state.add_organizations(["acme"], [ORDINARY])
        world.bootstrap()
    with engine.connect() as connection:
        stored = connection.scalar(text("SELECT unavailable_events FROM receiver.organizations"))
    at = datetime.fromisoformat(stored["receipt_fetched"]["rejected_at"])
    assert timedelta() <= datetime.now(UTC) - at < timedelta(minutes=5)
