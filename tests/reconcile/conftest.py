"""A webhook that is registered, so that there is a log to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def acme(world: World) -> World:
    """The organization's webhook is registered; its log has pages of seven."""
    assert world.bootstrap().failures == []
    world.provider.behaviour.per_page = 7
    world.provider.requests.clear()
    return world
