"""Looking into one delivery shows everything that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.ops.deliveries import DeliveryDetails, read_delivery
from tests.support.factories import body, card_holder, enrichment, sample, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations


def shown(acme: Acme, number: int) -> DeliveryDetails:
    """Return the details of the *number*-th delivery, from 1."""
    ids = [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id")]
    with acme.engine.connect() as connection:
        details = read_delivery(connection, ids[number - 1])
    assert details is not None
    return details


def test_applied_delivery_is_shown_with_outcome_and_changes(acme: Acme) -> None:
    payload = snapshot("cleared", transaction="t1")
    acme.apply("card.transaction.cleared", payload)
    details = shown(acme, 1)
    assert (details.summary.status, details.summary.verification) == ("processed", "signature")
    assert details.summary.organization_reference_id == "acme"
    assert details.payload == body(payload).decode()
    assert details.body_size == len(body(payload))
    assert "X-Webhook-Signature" not in details.headers
    assert (details.attempts, details.duplicates, details.replays, details.test) == ((), (), (), False)
    assert sorted(row.table for row in details.changed) == ["events", "transactions"]
    assert all("payload" not in row.values for row in details.changed)


def test_replaced_values_are_not_shown_as_changes_of_the_older(acme: Acme) -> None:
    for state in ("authorized", "cleared"):
        acme.apply(f"card.transaction.{state}", snapshot(state))
    assert [row.table for row in shown(acme, 1).changed] == ["events"]


@pytest.mark.parametrize(
    ("event", "tables"),
    [
        ("transaction.line.items", {"events", "line_items"}),
        ("receipt.fetched", {"events", "receipts"}),
        ("environmental.impact.deedster", {"events", "environmental_impacts"}),
    ],
)
def test_an_enrichment_is_shown_with_its_lines(acme: Acme, event: str, tables: set[str]) -> None:
    acme.apply(event, enrichment(event))
    assert {row.table for row in shown(acme, 1).changed} == tables


@pytest.mark.parametrize(("event", "table"), [("tpa.signed", "tpas"), ("invoice.created", "invoices")])
def test_an_organizations_event_is_shown_with_its_row(acme: Acme, event: str, table: str) -> None:
    acme.apply(event, sample(event))
    assert {row.table for row in shown(acme, 1).changed} == {"events", table}


def test_a_card_holders_event_is_shown_with_the_card_holder(organizations: Organizations) -> None:
    globex, acme = organizations.adopt("globex"), organizations.adopt("acme")
    globex.apply("card_holder.created", card_holder(organization="globex"))
    acme.apply("card_holder.created", card_holder())
    (holder,) = (row for row in shown(acme, 2).changed if row.table == "card_holders")
    assert holder.values["organization_reference_id"] == "acme"


def test_retries_are_shown_with_what_they_repeat(acme: Acme) -> None:
    for _ in range(3):
        acme.apply("card.transaction.cleared", snapshot("cleared"))
    for _ in range(2):
        acme.apply("card_holder.created", card_holder())
    acme.apply("card_holder.deleted", card_holder())
    ids = [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id")]
    assert [row.id for row in shown(acme, 1).duplicates] == [ids[2], ids[1]]
    assert [row.id for row in shown(acme, 2).duplicates] == [ids[2], ids[0]]
    assert [row.id for row in shown(acme, 5).duplicates] == [ids[3]]
    assert shown(acme, 6).duplicates == ()


def test_every_attempt_is_shown_with_its_error_and_trace(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the first line\nand more")

    monkeypatch.setattr("receiver.processing.drain.apply", fail)
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    details = shown(acme, 1)
    assert (details.summary.status, details.summary.error) == ("failed", "RuntimeError: the first line")
    (attempt,) = details.attempts
    assert (attempt.number, attempt.outcome) == (1, "failed")
    assert "Traceback" in (attempt.trace or "")
    assert (details.fingerprint, details.changed) == (None, ())


def test_bytes_that_are_no_text_are_shown_as_far_as_they_can(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", b'{"id": "\xff\xfe"}')
    details = shown(acme, 1)
    assert details.payload == '{"id": "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"}'
    assert details.body_size == 12


def test_a_delivery_that_does_not_exist_is_none(acme: Acme) -> None:
    with acme.engine.connect() as connection:
        assert read_delivery(connection, 4711) is None
