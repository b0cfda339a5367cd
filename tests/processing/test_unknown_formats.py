"""Events and versions that this release does not know: nothing of them is ignored in silence."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from receiver.cli import main
from tests.support.factories import body, enrichment, snapshot
from tests.support.pools import ACCESS
from tests.support.service_states import add_run

if TYPE_CHECKING:
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"


def apply_version(acme: Acme, event: str, payload: object, version: str) -> None:
    response = acme.deliver(event, payload, headers={"X-Version": version})
    assert response.status_code == 200
    acme.process()


def status(acme: Acme, environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
    add_run(acme.engine, "acme")
    ran = CliRunner(env={**environment, **ACCESS}).invoke(main, ["status", "--json"])
    return ran.exit_code, json.loads(ran.stdout)


def metric(acme: Acme, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(acme.client.get("/metrics").text)
    (value,) = (
        each.value for family in families for each in family.samples if (each.name, each.labels) == (name, labels)
    )
    return value


@pytest.mark.parametrize("version", ["1.0", "v1", "2", "2026-11-01"])
def test_an_unknown_version_that_parses_is_applied(acme: Acme, version: str) -> None:
    apply_version(acme, CLEARED, snapshot("cleared"), version)
    assert acme.statuses() == ["processed"]
    assert acme.value("SELECT accounting_amount FROM ems.ledger") == Decimal("1249.06")


def test_an_applied_unknown_version_needs_attention(acme: Acme, environment: dict[str, str]) -> None:
    for number in range(3):
        apply_version(acme, CLEARED, snapshot("cleared", transaction=f"t{number}"), "2")
    exit_code, document = status(acme, environment)
    (line,) = document["needs_attention"]
    assert exit_code == 1
    assert line.startswith("3 deliveries of an unknown version ('card.transaction.cleared', version '2')")
    assert metric(acme, "receiver_unknown_versions") == 1
    assert metric(acme, "receiver_deliveries_waiting", status="ignored") == 0


@pytest.mark.parametrize("version", ["1", " 1 ", ""])
def test_a_known_version_needs_no_attention(acme: Acme, version: str, environment: dict[str, str]) -> None:
    apply_version(acme, CLEARED, snapshot("cleared"), version)
    assert status(acme, environment)[0] == 0
    assert acme.rows("SELECT * FROM receiver.unknown_versions") == []


def without(payload: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != name}


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        (CLEARED, without(snapshot("cleared"), "accounting_amount"), "accounting_amount: missing"),
        (CLEARED, without(snapshot("cleared"), "id"), "id: missing"),
        (CLEARED, {**snapshot("cleared"), "original_amount": {"value": 1}}, "original_amount: expected"),
        ("transaction.true.vat", without(enrichment("transaction.true.vat"), "totals"), "totals: missing"),
        ("receipt.fetched", without(enrichment("receipt.fetched"), "url"), "url: missing"),
        (CLEARED, b"<xml/>", "body: not JSON"),
    ],
)
def test_an_unknown_version_that_lacks_its_money_is_ignored(
    acme: Acme, event: str, payload: object, reason: str
) -> None:
    apply_version(acme, event, payload, "2")
    row = acme.row("SELECT status, error FROM receiver.deliveries")
    assert row["status"] == "ignored"
    assert row["error"].startswith(f"unknown version '2' of the webhook format: {reason}")


def test_an_unknown_version_of_another_tenant_is_quarantined(acme: Acme) -> None:
    apply_version(acme, CLEARED, snapshot("cleared", organization={"reference_id": "globex"}), "2")
    assert acme.statuses() == ["quarantined"]


def test_ignored_deliveries_need_attention_by_event(acme: Acme, environment: dict[str, str]) -> None:
    for number in range(3):
        acme.apply("card.transaction.refunded", snapshot("cleared", transaction=f"t{number}"))
    apply_version(acme, CLEARED, body({"id": "t9"}), "2")
    exit_code, document = status(acme, environment)
    refunded, cleared = document["needs_attention"]
    assert exit_code == 1
    assert refunded.startswith("3 ignored deliveries ('card.transaction.refunded', version '1')")
    assert cleared.startswith("1 ignored delivery ('card.transaction.cleared', version '2')")
    assert document["ignored"] == 4
    assert [(group["status"], group["number"]) for group in document["failures"]] == [("ignored", 3), ("ignored", 1)]
    assert metric(acme, "receiver_deliveries_waiting", status="ignored") == 4


def test_a_replay_after_an_upgrade_ends_the_attention(acme: Acme, environment: dict[str, str]) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    acme.execute("UPDATE receiver.stored_deliveries SET event = 'card.transaction.settled'")
    acme.process()
    assert status(acme, environment)[0] == 1
    acme.execute("UPDATE receiver.stored_deliveries SET event = :event", event=CLEARED)
    replayed = CliRunner(env={**environment, **ACCESS}).invoke(
        main, ["replay", "--status", "ignored", "--reason", "the new release knows it", "--no-wait"]
    )
    assert replayed.exit_code == 0, replayed.output
    acme.process()
    assert status(acme, environment)[0] == 0
