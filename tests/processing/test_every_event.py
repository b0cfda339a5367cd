"""Every event of the catalogue, from its sample to its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.events.catalogue import ALIASES, EVENT_FLAGS
from tests.support.factories import SAMPLES, sample

if TYPE_CHECKING:
    from tests.conftest import Acme


def test_every_event_of_the_catalogue_has_a_sample() -> None:
    assert {path.name.removesuffix(".json") for path in SAMPLES.glob("*.json")} == set(EVENT_FLAGS)


@pytest.mark.parametrize("event", sorted(EVENT_FLAGS))
def test_event_is_applied_and_is_in_the_feed(acme: Acme, event: str) -> None:
    acme.apply(event, sample(event))
    assert acme.row("SELECT status, error, attempts FROM receiver.deliveries") == {
        "status": "processed",
        "error": None,
        "attempts": 1,
    }
    assert acme.row("SELECT type, organization_reference_id, source FROM ems.events") == {
        "type": event,
        "organization_reference_id": "acme",
        "source": "push",
    }


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_another_spelling_is_the_same_event(acme: Acme, alias: str) -> None:
    acme.apply(ALIASES[alias], sample(ALIASES[alias]))
    acme.apply(alias, sample(ALIASES[alias]))
    assert acme.statuses() == ["processed", "duplicate"]
    assert acme.rows("SELECT type FROM ems.events") == [{"type": ALIASES[alias]}]
