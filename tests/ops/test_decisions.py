"""A person decides about deliveries that OpenCard's log does not have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.cli.operator import operator
from receiver.errors import OperationRefused
from receiver.ops.decisions import accept_deliveries
from receiver.ops.deliveries import Filter, list_deliveries
from receiver.ops.findings import FindingKind
from receiver.ops.status import find_in_webhook, read_status
from tests.support.factories import card_holder
from tests.support.replay_steps import ids
from tests.support.service_states import miss_all_in_the_log

if TYPE_CHECKING:
    from tests.conftest import Acme

REASON = "OpenCard: their log has a gap"


@pytest.fixture
def unlogged(acme: Acme) -> Acme:
    """Three deliveries are processed; OpenCard's log has none of them."""
    for number in range(3):
        acme.apply("card_holder.created", card_holder(f"employee-{number}"))
    miss_all_in_the_log(acme.engine, "acme")
    return acme


def listed(acme: Acme) -> list[int]:
    with acme.engine.connect() as connection:
        return sorted(row.id for row in list_deliveries(connection, Filter(unconfirmed=True)).rows)


def found(acme: Acme) -> list[int]:
    """Return the count of each finding about unconfirmed deliveries: what status, issues and alerts are made of."""
    status = read_status(acme.rows)
    findings = (each for webhook in status.webhooks for each in find_in_webhook(webhook, status.at, None))
    return [each.count for each in findings if each.kind is FindingKind.UNCONFIRMED]


def by_hour(acme: Acme) -> int:
    return int(acme.value("SELECT sum(unconfirmed) FROM receiver.delivery_gaps_by_hour"))


def test_accepted_deliveries_are_unconfirmed_nowhere(unlogged: Acme) -> None:
    first, second, third = ids(unlogged)
    assert (listed(unlogged), found(unlogged), by_hour(unlogged)) == ([first, second, third], [3], 3)
    assert accept_deliveries(unlogged.engine, (third, first, third), by="kim@ops", reason=REASON) == 2
    assert (listed(unlogged), found(unlogged), by_hour(unlogged)) == ([second], [1], 1)
    accept_deliveries(unlogged.engine, (second,), by="kim@ops", reason=REASON)
    assert (listed(unlogged), found(unlogged), by_hour(unlogged)) == ([], [], 0)
    assert unlogged.value("SELECT count(*) FROM receiver.deliveries WHERE confirmed_at IS NULL") == 3
    assert len(unlogged.rows("SELECT FROM ems.card_holders")) == 3


def test_only_unconfirmed_deliveries_are_accepted(unlogged: Acme) -> None:
    first, second, third = ids(unlogged)
    unlogged.execute("INSERT INTO receiver.confirmations (delivery_id, confirmed_at) VALUES (:id, now())", id=first)
    accept_deliveries(unlogged.engine, (second,), by="kim@ops", reason=REASON)
    unlogged.apply("card_holder.created", card_holder("employee-new"))
    new = ids(unlogged)[-1]
    for given, why in (
        (first, f"delivery {first} is not unconfirmed: OpenCard's log has it"),
        (second, f"delivery {second} is not unconfirmed: an operator decided about it already: accepted"),
        (new, f"delivery {new} is not unconfirmed: it was not compared with OpenCard's log yet"),
        (new + 1, f"there is no delivery {new + 1}"),
    ):
        with pytest.raises(OperationRefused, match=why):
            accept_deliveries(unlogged.engine, (third, given), by="kim@ops", reason=REASON)
    with pytest.raises(OperationRefused, match="needs a reason"):
        accept_deliveries(unlogged.engine, (third,), by="kim@ops", reason=" ")
    assert listed(unlogged) == [third]


def test_an_operator_accepts_with_a_reason(unlogged: Acme, environment: dict[str, str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner(env=environment).invoke(main, ["deliveries", *arguments])
        return result.exit_code, result.stdout

    first, second, third = map(str, ids(unlogged))
    assert run("accept", first)[0] == run("accept", first, "--reason", " ")[0] == 2
    assert run("accept", "--reason", REASON)[0] == 2
    code, output = run("accept", first, second, "--reason", REASON, "--json")
    assert (code, json.loads(output)) == (0, {"accepted": 2})
    assert run("accept", third, "--reason", REASON) == (0, "1 delivery accepted\n")
    shown = json.loads(run("show", first, "--json")[1])
    assert (shown["decision"]["decision"], shown["decision"]["decided_by"]) == ("accepted", operator())
    assert "accepted" in run("show", first)[1]
    recorded = unlogged.rows(
        "SELECT object, reason, outcome FROM receiver.audit WHERE action = 'deliveries accept' ORDER BY id"
    )
    assert [tuple(row.values()) for row in recorded] == [
        (f"{first} {second}", REASON, "done"),
        (third, REASON, "done"),
    ]
