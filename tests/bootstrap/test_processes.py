"""Worker and scheduler as the Procfile runs them: a new organization gets its webhook without a person."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from receiver.sandbox.provider.billing import ORDINARY, PRODUCTS
from tests.support.bootstrap_steps import allowed
from tests.support.pools import RECEIVER, SECONDS, running
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.world import World

pytestmark = pytest.mark.long


@pytest.fixture
def by_itself(world: World, environment: dict[str, str], redis: Redis) -> Iterator[World]:
    """An account whose configuration was applied once; from then on the scheduler applies it every two seconds."""
    assert world.bootstrap().failures == []
    settings = {**world.environment(environment), "BOOTSTRAP_INTERVAL": "2", "RECONCILE_INTERVAL": "0"}
    with running(redis, settings) as pool:
        scheduler = subprocess.Popen([RECEIVER, "scheduler"], env={**os.environ, **settings})
        try:
            yield world
        finally:
            scheduler.terminate()
            scheduler.wait(timeout=SECONDS)
            pool.stop()


def test_new_organization_and_product_need_no_operator(by_itself: World) -> None:
    state = by_itself.provider.state
    billing = state.add_billing(ORDINARY)
    globex = state.add_organization("globex", billing_id=billing.id)

    def flags() -> set[str]:
        return {flag for webhook in state.webhooks_of(globex.id) if webhook.active for flag in webhook.flags}

    assert eventually(lambda: flags() == allowed(ORDINARY), within=SECONDS)
    state.change_billing(billing.id, PRODUCTS)
    assert eventually(lambda: flags() == allowed(frozenset(PRODUCTS)), within=SECONDS)
    assert len(state.webhooks_of(globex.id)) == 1
