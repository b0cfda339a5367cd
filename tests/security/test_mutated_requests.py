"""No mutation of a genuine request is answered 5xx, and none hangs; ``python -m bench.mutated`` sends more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from bench.mutated import mutated, send_all
from receiver.sandbox.local import ORGANIZATIONS
from receiver.sandbox.story import make_story

if TYPE_CHECKING:
    from tests.conftest import Acme
    from tests.security.conftest import WebUnderAttack

NUMBER = 5000
SEED = 2


@pytest.mark.long
def test_no_mutated_request_is_answered_5xx(web: WebUnderAttack, acme: Acme) -> None:
    found = send_all(web.port, acme.registration, number=NUMBER, seed=SEED)
    assert found.wrong == []
    assert 0 < acme.value("SELECT count(*) FROM receiver.deliveries") <= found.statuses["200"]
    assert {"400", "401", "404"} <= found.statuses.keys()
    assert httpx.get(f"http://127.0.0.1:{web.port}/readyz").status_code == 200


def test_the_seed_and_the_number_decide_a_request(acme: Acme) -> None:
    sent = make_story(seed=SEED, organizations=ORGANIZATIONS[:1], purchases=3).events
    requests = [mutated(sent, acme.registration, SEED, number) for number in range(50)]
    assert [mutated(sent, acme.registration, SEED, number) for number in range(50)] == requests
    assert len(set(requests)) == 50
