"""``receiver recover``, and what ``receiver status`` and ``/metrics`` say of an epoch of the feed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from tests.support.factories import card_holder
from tests.support.pools import ACCESS
from tests.support.service_states import add_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Acme

    Run = Callable[..., Result]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str, **changes: str | None) -> Result:
        result = CliRunner(env={**environment, **ACCESS, **changes}).invoke(main, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def branch(acme: Acme) -> None:
    """Let PostgreSQL's history be another than the one that is stored, and process an event."""
    acme.apply("card_holder.created", card_holder("employee-1"))
    acme.execute("UPDATE receiver.feed_epochs SET timeline = timeline + 1")
    acme.apply("card_holder.created", card_holder("employee-2"))


def metric(acme: Acme, name: str) -> float:
    (line,) = [line for line in acme.client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_an_epoch_needs_attention_until_it_is_acknowledged(acme: Acme, run: Run) -> None:
    add_run(acme.engine, "acme")
    branch(acme)
    seen = run("status")
    assert seen.exit_code == 1
    assert "feed: epoch 1 began at" in seen.stderr
    assert "another timeline" in seen.stderr
    assert "1 webhook is still to be reconciled: acknowledge it; receiver recover" in seen.stderr
    assert (metric(acme, "receiver_feed_epoch"), metric(acme, "receiver_feed_epoch_needs_attention")) == (1, 1)
    done = run("recover")
    assert (done.exit_code, "is acknowledged" in done.stdout) == (0, True)
    add_run(acme.engine, "acme")
    assert run("status").exit_code == 0
    assert (metric(acme, "receiver_feed_epoch"), metric(acme, "receiver_feed_epoch_needs_attention")) == (1, 0)


def test_an_epoch_needs_attention_for_eight_days_at_most(acme: Acme, run: Run) -> None:
    add_run(acme.engine, "acme")
    branch(acme)
    acme.execute("UPDATE receiver.feed_epochs SET begun_at = now() - interval '7 days 23 hours'")
    assert run("status").exit_code == 1
    acme.execute("UPDATE receiver.feed_epochs SET begun_at = now() - interval '8 days'")
    assert run("status").exit_code == 0
    assert json.loads(run("recover", "--json").stdout)["begun"] is True


def test_recovering_by_hand_begins_an_epoch(acme: Acme, run: Run) -> None:
    acme.apply("card_holder.created", card_holder("employee-1"))
    done = run("recover", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document.pop("begun_at")
    assert document.pop("epoch_start") == acme.value("SELECT epoch_start FROM ems.feed_horizon")
    assert document == {"epoch": 1, "begun": True, "reason": "receiver recover", "webhooks_to_reconcile": 1}
    acme.apply("card_holder.created", card_holder("employee-2"))
    assert acme.value("SELECT max(position) >> 40 FROM ems.events") == 1
    add_run(acme.engine, "acme")
    assert run("status").exit_code == 0


def test_recovering_says_when_nothing_reconciles(acme: Acme, run: Run) -> None:
    acme.apply("card_holder.created", card_holder("employee-1"))
    done = run("recover", RECONCILE_INTERVAL="0")
    assert (done.exit_code, "RECONCILE_INTERVAL is 0; run receiver reconcile" in done.stderr) == (1, True)
