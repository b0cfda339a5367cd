"""After a restore nothing stays lost: all webhooks are reconciled at once, and followers of the feed miss no event."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from receiver.db import engine_for
from receiver.processing.drain import drain
from receiver.reconcile.schedule import reconcile_due
from receiver.sandbox.faults import Faults
from receiver.sandbox.story import make_story
from tests.support.factories import card_holder
from tests.support.reconcile_steps import (
    MINUTE,
    ago,
    deliver,
    execute,
    ledger_differences,
    reconcile_and_process,
    rows,
    store_delivery,
    value,
)
from tests.support.restoring import dump, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.world import World

STORY = make_story(seed=7, organizations=["acme"], purchases=12)
HALF = len(STORY.events) // 2
ALL_WELL = Faults()


@pytest.fixture
def restored(
    acme: World,
    new_database: Callable[[], str],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """The receiver of acme, restored from a backup of when it had the first half of the story; *acme* has it all."""
    deliver(acme, replace(STORY, events=STORY.events[:HALF]), ALL_WELL)
    reconcile_and_process(acme)
    backup = dump(environment["DATABASE_URL"])
    deliver(acme, replace(STORY, events=STORY.events[HALF:]), ALL_WELL)
    url = new_database()
    restore(url, backup)
    for name, setting in (acme.environment(environment) | {"DATABASE_URL": url}).items():
        monkeypatch.setenv(name, setting)
    engine = engine_for(url, application="tests")
    yield replace(acme, engine=engine)
    engine.dispose()


def feed_after(world: World, position: int) -> dict[int, str]:
    """Return what each later position means."""
    query = "SELECT position, type, payload FROM ems.events WHERE position > :position"
    found = rows(world, query, position=position)
    return {row["position"]: row["type"] + json.dumps(row["payload"], sort_keys=True, default=str) for row in found}


def test_deliveries_lost_by_a_restore_are_recovered_at_once(acme: World, restored: World) -> None:
    backed_up = feed_after(restored, 0)
    store_delivery(restored, "card_holder.created", card_holder("arrived-after-the-restore"), at=ago(MINUTE))
    assert drain(restored.engine)
    reconcile_due()
    assert value(restored, "SELECT count(*) FROM receiver.reconcile_runs WHERE recovered > 0") == 1
    assert drain(restored.engine)
    execute(restored, "DELETE FROM ems.card_holders WHERE reference_id = 'arrived-after-the-restore'")
    assert [line for line in ledger_differences(restored, STORY) if not line.startswith("ems.events")] == []

    lost, present = feed_after(acme, 0), feed_after(restored, 0)
    assert backed_up.items() == {(number, lost[number]) for number in lost.keys() & present.keys()}
    assert len(lost) > len(backed_up)
    newest = max(lost)
    assert value(restored, "SELECT epoch_start FROM ems.feed_horizon") > newest, "a follower learns of it"
    assert set(present.values()) <= set(lost.values()) | set(feed_after(restored, newest).values())
    assert set(lost.values()) <= set(present.values())


def test_webhooks_are_reconciled_once_for_each_epoch(restored: World) -> None:
    runs = value(restored, "SELECT count(*) FROM receiver.reconcile_runs")
    reconcile_due()
    assert value(restored, "SELECT count(*) FROM receiver.reconcile_runs") == runs + 1
    assert value(
        restored,
        "SELECT started_at - since >= interval '7 days' OR since IS NULL FROM "
        "receiver.reconcile_runs ORDER BY id DESC LIMIT 1",
    )
    reconcile_due()
    assert value(restored, "SELECT count(*) FROM receiver.reconcile_runs") == runs + 1
