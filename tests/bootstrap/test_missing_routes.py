"""Routes that OpenCard's API may lack: that part is reported, and nothing else stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.sandbox.provider import scopes

if TYPE_CHECKING:
    from tests.support.world import World

HEADERS_AND_GROUPS = """
groups = ["5561234567", "5567654321"]
[headers]
X-Token = "the-token"
"""
LISTS = frozenset({scopes.HEADERS, scopes.GROUPS})


@pytest.fixture(params=[404, 405])
def world(world: World, request: pytest.FixtureRequest) -> World:
    world.provider.behaviour.route_off_status = request.param
    return world


def registered(world: World) -> tuple[list[str], list[str]]:
    webhook = world.registered()
    return [header.key for header in webhook.headers], [group.buyer_party for group in webhook.groups]


def test_missing_routes_do_not_prevent_the_webhook(world: World) -> None:
    world.provider.behaviour.routes_off = LISTS
    result = world.bootstrap(HEADERS_AND_GROUPS)
    assert world.registered().active
    assert [change.action for _, change in result.changes] == ["create"]
    parts = [failure.error.partition(" (scope ")[0].rpartition("/")[2] for failure in result.failures]
    assert parts == ["headers", "groups", "groups"]


def test_unlisted_extras_are_added_once_and_noted(world: World) -> None:
    world.provider.behaviour.routes_off = frozenset(f"GET {path}" for path in LISTS)
    assert world.bootstrap(HEADERS_AND_GROUPS).failures == []
    assert registered(world) == (["X-Token"], ["5561234567", "5567654321"])
    world.provider.requests.clear()
    result = world.bootstrap(HEADERS_AND_GROUPS)
    assert (result.changes, result.failures, world.writes()) == ([], [], [])
    assert [note.error.partition(" cannot")[0] for note in result.notes] == ["headers", "groups"]
    assert world.bootstrap(HEADERS_AND_GROUPS.replace("5567654321", "5560000000")).failures == []
    assert registered(world)[1] == ["5561234567", "5567654321", "5560000000"]


def test_header_that_cannot_be_replaced_is_a_separate_failure(world: World) -> None:
    world.bootstrap(HEADERS_AND_GROUPS)
    world.provider.behaviour.routes_off = frozenset({scopes.HEADERS})
    changed = HEADERS_AND_GROUPS.replace("the-token", "another").replace('"5567654321"', '"5567654321", "5560000000"')
    result = world.bootstrap(changed)
    [failure] = result.failures
    assert "the header X-Token has another value" in failure.error
    assert registered(world)[1] == ["5561234567", "5567654321", "5560000000"]


def test_missing_webhook_route_falls_back_to_the_list(world: World) -> None:
    world.bootstrap()
    webhook = world.registered()
    world.provider.state.change_webhook(webhook.id, url="https://elsewhere.example.com/hook")
    world.provider.behaviour.routes_off = frozenset({f"GET {scopes.WEBHOOK}"})
    assert world.bootstrap().failures == []
    assert world.registered().url.startswith(world.public_url)
    world.provider.state.remove_webhook(webhook.id)
    assert [change.action for _, change in world.bootstrap().changes] == ["create"]
