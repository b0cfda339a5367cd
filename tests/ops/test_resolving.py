"""Deliveries that need attention can be resolved with a reason and without a replay: they are open nowhere then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.cli.operator import operator
from receiver.errors import OperationRefused
from receiver.ops.activity import failures_by_error
from receiver.ops.deliveries import Filter, list_deliveries, read_delivery
from receiver.ops.resolving import count_resolvable, reopen_deliveries, resolve_deliveries
from receiver.ops.status import read_status
from receiver.ops.unknown import read_unknown
from tests.support.factories import body, card_holder, snapshot
from tests.support.replay_steps import counts, ids, replay

if TYPE_CHECKING:
    from receiver.ops.replay_selection import Selection
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
UNPARSED = b'{"id": 5}'
REASON = "a test by OpenCard"


@pytest.fixture
def held(acme: Acme) -> Acme:
    """One delivery of each status that may need attention, and one that is processed."""
    acme.apply(CLEARED, UNPARSED)
    acme.apply(CLEARED, snapshot("cleared", organization={"reference_id": "globex"}))
    acme.apply("card.transaction.refunded", snapshot("cleared"))
    acme.apply(CLEARED, snapshot("cleared"))
    assert acme.statuses() == ["dead", "quarantined", "ignored", "processed"]
    return acme


def resolve(acme: Acme, wanted: Selection) -> int:
    return resolve_deliveries(acme.engine, wanted, by="kim@ops", reason=REASON)


def open_gaps(acme: Acme) -> int:
    return int(acme.value("SELECT open_gaps FROM ems.completeness"))


def failures(acme: Acme) -> set[str]:
    with acme.engine.connect() as connection:
        return {group.status for group in failures_by_error(connection)}


def test_resolved_deliveries_are_open_nowhere(held: Acme) -> None:
    assert (failures(held), open_gaps(held)) == ({"dead", "quarantined", "ignored"}, 3)
    assert resolve(held, tuple(ids(held)[:3])) == 3
    service = read_status(held.rows)
    assert {name: each.number for name, each in service.deliveries.items()} == {
        "pending": 0, "failed": 0, "dead": 0, "quarantined": 0, "ignored": 0,
    }  # fmt: skip
    assert (failures(held), read_unknown(held.rows).ignored, open_gaps(held)) == (set(), (), 0)
    assert held.statuses() == ["dead", "quarantined", "ignored", "processed"], "which they keep"
    assert resolve(held, tuple(ids(held)[:3])) == 0


def test_filter_leaves_out_deliveries_that_need_no_attention(held: Acme) -> None:
    wanted = Filter(organizations=("acme",))
    assert count_resolvable(held.engine, wanted) == 3
    assert resolve(held, wanted) == 3
    assert count_resolvable(held.engine, wanted) == 0
    assert reopen_deliveries(held.engine, Filter(statuses=("dead",))) == 1
    assert failures(held) == {"dead"}


@pytest.mark.parametrize(("place", "said"), [(3, "is processed: only dead, quarantined and ignored")])
def test_delivery_that_needs_no_attention_is_refused_by_its_id(held: Acme, place: int, said: str) -> None:
    given = ids(held)
    with pytest.raises(OperationRefused, match=said):
        resolve(held, (given[0], given[place]))
    assert len(failures(held)) == 3, "nothing was resolved"
    with pytest.raises(OperationRefused, match="there is no delivery"):
        resolve(held, (given[3] + 1,))
    with pytest.raises(OperationRefused, match="needs a reason"):
        resolve_deliveries(held.engine, (given[0],), by="kim@ops", reason=" ")


def test_a_test_delivery_needs_no_attention(acme: Acme) -> None:
    acme.execute("UPDATE receiver.webhooks SET test = true")
    acme.apply(CLEARED, snapshot("cleared"))
    assert acme.statuses() == ["ignored"]
    assert (
        count_resolvable(acme.engine, Filter(statuses=("ignored",))),
        resolve(acme, Filter(statuses=("ignored",))),
    ) == (0, 0)
    with pytest.raises(OperationRefused, match="is a test delivery"):
        resolve(acme, tuple(ids(acme)))


def test_a_test_delivery_is_not_unresolved(held: Acme) -> None:
    held.execute("UPDATE receiver.outcomes SET error = 'test delivery' WHERE status = 'ignored'")
    with held.engine.connect() as connection:
        found = list_deliveries(connection, Filter(unresolved=True)).rows
    assert "ignored" not in {row.status for row in found}
    assert len(found) == 2


def test_unresolved_deliveries_are_listed(held: Acme) -> None:
    resolve(held, (ids(held)[0],))
    with held.engine.connect() as connection:
        found = list_deliveries(connection, Filter(unresolved=True)).rows
        details = read_delivery(connection, ids(held)[0])
    assert [row.status for row in found] == ["ignored", "quarantined"]
    assert details is not None
    assert details.resolution is not None
    assert (details.resolution.resolved_by, details.resolution.reason) == ("kim@ops", REASON)


def test_resolved_delivery_can_still_be_replayed(held: Acme) -> None:
    dead = ids(held)[0]
    resolve(held, (dead,))
    given = {"body": body(snapshot("cleared", transaction="t2")), "id": dead}
    held.execute("UPDATE receiver.bodies SET body = :body WHERE delivery_id = :id", **given)
    assert counts(replay(held, (dead,))) == (1, 1, 0)
    assert held.value("SELECT acknowledged_gaps FROM ems.completeness") == 0


def test_a_reason_that_is_no_utf8_is_kept_as_far_as_it_is(held: Acme, environment: dict[str, str]) -> None:
    given = ["deliveries", "resolve", str(ids(held)[0]), "--reason", "caf\udce9"]
    assert CliRunner(env=environment).invoke(main, given).stdout == "1 delivery resolved\n"
    assert held.value("SELECT reason FROM receiver.acknowledged_gaps") == "caf?"
    assert held.value("SELECT reason FROM receiver.audit") == "caf?"


def test_command_resolves_and_reopens(held: Acme, environment: dict[str, str]) -> None:
    run = CliRunner(env=environment)
    dead = str(ids(held)[0])
    assert run.invoke(main, ["deliveries", "resolve", dead]).exit_code == 2
    assert run.invoke(main, ["deliveries", "resolve", "--reason", REASON]).exit_code == 2
    assert run.invoke(main, ["deliveries", "resolve", dead, "--status", "dead", "--reason", REASON]).exit_code == 2
    counted = run.invoke(main, ["deliveries", "resolve", "--unresolved", "--dry-run"])
    assert counted.stdout == "3 deliveries would be resolved\n"
    assert run.invoke(main, ["deliveries", "resolve", dead, "--reason", REASON]).stdout == "1 delivery resolved\n"
    assert f"resolved_by {operator()} reason {REASON}" in " ".join(
        run.invoke(main, ["deliveries", "show", dead]).stdout.split()
    )
    left = json.loads(run.invoke(main, ["deliveries", "list", "--unresolved", "--json"]).stdout)["deliveries"]
    assert [row["status"] for row in left] == ["ignored", "quarantined"]
    assert json.loads(run.invoke(main, ["deliveries", "resolve", dead, "--undo", "--json"]).stdout) == {"reopened": 1}
    assert "dead" in failures(held)


def test_a_dead_card_holder_event_needs_no_completeness(acme: Acme) -> None:
    acme.apply("card_holder.created", UNPARSED)
    acme.apply("card_holder.created", card_holder())
    assert resolve(acme, Filter(statuses=("dead",))) == 1
    assert open_gaps(acme) == 0
