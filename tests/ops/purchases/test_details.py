"""Everything about one purchase."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from receiver.ops.purchases import organizations_of, read_purchase
from tests.support.factories import enrichment, snapshot
from tests.support.replay_steps import ids, replay
from tests.support.service_states import add_run, webhook_id_of

if TYPE_CHECKING:
    from receiver.ops.purchases import Happening, PurchaseDetails
    from tests.conftest import Acme, Organizations

ID = "transaction-1"


def read(acme: Acme, transaction: str = ID, *, personal: bool = False) -> PurchaseDetails:
    with acme.engine.connect() as connection:
        found = read_purchase(connection, "acme", transaction, personal=personal)
    assert found is not None
    return found


def of_kind(details: PurchaseDetails, kind: str) -> list[Happening]:
    return [each for each in details.timeline if each.kind == kind]


@pytest.fixture
def bought(acme: Acme) -> Acme:
    """A purchase that was authorized and cleared with another amount, with VAT, items and a receipt."""
    acme.apply("card.transaction.authorized", snapshot("authorized", accounting_amount=Decimal("1200.00")))
    acme.apply("card.transaction.cleared", snapshot("cleared", accounting_amount=Decimal("1249.06")))
    for event in ("receipt.fetched", "transaction.true.vat", "transaction.line.items"):
        acme.apply(event, enrichment(event))
    return acme


def test_purchase_is_shown_as_the_tables_have_it(bought: Acme) -> None:
    details = read(bought)
    assert details.transaction is not None
    assert (details.transaction["state"], details.transaction["accounting_amount"]) == ("cleared", Decimal("1249.06"))
    assert details.ledger is not None
    assert (details.ledger["vat_amount"], details.ledger["receipt_state"]) == (Decimal("15.57"), "reported")
    assert [row["percentage"] for row in details.vat_rates] == [19, Decimal("7.0")]
    assert [row["description"] for row in details.line_items] == ["Business lunch", "Coffee beans, 0.75 kg"]
    assert [row["original_amount"] for row in details.receipts] == [Decimal("109.38")]


def test_events_show_what_differs_from_the_one_before(bought: Acme) -> None:
    authorized, cleared, *_ = of_kind(read(bought), "event")
    assert authorized.first
    assert not cleared.first
    changes = {each.name: (each.before, each.after) for each in cleared.changes}
    assert changes["accounting_amount"] == ("1200.00", "1249.06")
    assert changes["state"] == ("authorized", "cleared")
    assert "purchase_city" not in changes


def test_timeline_is_in_order_and_names_every_delivery(bought: Acme) -> None:
    timeline = read(bought).timeline
    assert [each.at for each in timeline] == sorted(each.at for each in timeline)
    assert [each.delivery_id for each in timeline if each.kind == "delivery"] == ids(bought)
    assert [each.kind for each in timeline[:2]] == ["delivery", "event"]


def test_each_line_of_the_journal_is_in_the_timeline(bought: Acme) -> None:
    bought.apply("card.transaction.cleared", snapshot("cleared", accounting_amount=Decimal("1250.00")))
    ledger = [each.text.split(" of ")[0] for each in of_kind(read(bought), "ledger")]
    assert len(ledger) == bought.value("SELECT count(*) FROM ems.ledger_journal")
    assert (ledger[0], ledger[-2:]) == ("booking", ["reversal", "correction"])
    assert "1250.00 SEK" in of_kind(read(bought), "ledger")[-1].text


def test_nothing_personal_is_read_unless_asked_for(bought: Acme) -> None:
    words = str(asdict(read(bought)))
    assert "employee-17" not in words
    assert not re.search(r"\b4242\b", words), "which a time may have among its microseconds"
    assert "files.opencard.invalid" not in words
    details = read(bought, personal=True)
    assert details.person is not None
    assert (details.person["card_holder_reference_id"], details.person["card_last_four"]) == ("employee-17", "4242")
    payload = of_kind(details, "event")[0].payload
    assert payload is not None
    assert "employee-17" in payload


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (("authorized",), "authorized only: the ledger has purchases that are cleared or invoiced"),
        (("authorized", "deleted"), "deleted: OpenCard reported that the purchase was withdrawn before it was cleared"),
    ],
)
def test_missing_ledger_line_has_its_reason(acme: Acme, events: tuple[str, ...], reason: str) -> None:
    for state in events:
        acme.apply(f"card.transaction.{state}", snapshot(state))
    assert (read(acme).ledger, read(acme).ledger_reason) == (None, reason)


def test_receipt_without_its_purchase_says_so(acme: Acme) -> None:
    acme.apply("receipt.fetched", enrichment("receipt.fetched"))
    details = read(acme)
    assert details.transaction is None
    assert details.ledger_reason.startswith("no event of the purchase itself was received")
    assert len(details.receipts) == 1


def test_dead_delivery_is_the_reason_why_nothing_is_there(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", accounting_amount="much"))
    (delivery,) = ids(acme)
    details = read(acme)
    assert details.ledger_reason == f"no event of the purchase was applied: delivery {delivery} is dead"
    (attempt,) = of_kind(details, "processing failed")
    assert (attempt.status, attempt.delivery_id) == ("dead", delivery)
    assert "accounting_amount" in attempt.text


def test_retries_and_replays_are_in_the_timeline(acme: Acme) -> None:
    for _ in range(2):
        acme.apply("card.transaction.cleared", snapshot("cleared"))
    replay(acme, (ids(acme)[0],))
    details = read(acme)
    assert [each.status for each in of_kind(details, "delivery")] == ["processed", "duplicate"]
    (replayed,) = of_kind(details, "replay")
    assert replayed.delivery_id == ids(acme)[0]
    assert "by kim@ops: the cause is fixed" in replayed.text
    assert len(of_kind(details, "event")) == 1


def test_verdict_of_reconcile_names_the_deliveries(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    first, second = ids(acme)
    assert read(acme).reconcile == (f"not compared with OpenCard's log yet: deliveries {first}, {second}",)
    acme.execute("INSERT INTO receiver.confirmations (delivery_id, confirmed_at) VALUES (:id, now())", id=first)
    add_run(acme.engine, "acme", unrecoverable=2)
    acme.execute("UPDATE receiver.reconcile_runs SET unconfirmed_before = now()")
    confirmed, unconfirmed, lost = read(acme).reconcile
    assert confirmed == f"confirmed, found in OpenCard's log: delivery {first}"
    assert unconfirmed == f"unconfirmed, received and not in OpenCard's log: delivery {second}"
    assert lost.startswith("unrecoverable: OpenCard's log has 2 events of acme without a payload")
    assert [each.delivery_id for each in of_kind(read(acme), "confirmed")] == [first]


def test_refused_attempts_of_the_log_come_before_the_delivery(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.execute(
        "INSERT INTO receiver.delivery_log (webhook_id, identity, event, response_status, attempted_at, fingerprint,"
        " item) SELECT :webhook, 'x', 'card.transaction.cleared', 401, received_at - :earlier, fingerprint, '{}'"
        " FROM receiver.deliveries",
        webhook=webhook_id_of(acme.engine, "acme"),
        earlier=timedelta(minutes=3),
    )
    first = read(acme).timeline[0]
    assert first.kind == "log"
    assert first.text.endswith("answered 401")


def test_stored_file_of_a_receipt_is_in_the_timeline(acme: Acme) -> None:
    acme.apply("receipt.fetched", enrichment("receipt.fetched"))
    acme.execute("UPDATE ems.receipts SET file_key = 'ab/cd.pdf', file_size = 812, downloaded_at = now()")
    (stored,) = of_kind(read(acme), "file")
    assert "ab/cd.pdf, 812 bytes" in stored.text


def test_same_id_in_two_organizations_is_two_purchases(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    globex.apply("card.transaction.cleared", snapshot("cleared", organization={"reference_id": "globex"}))
    with acme.engine.connect() as connection:
        assert organizations_of(connection, ID) == ["acme", "globex"]
        assert organizations_of(connection, "nothing") == []
        assert read_purchase(connection, "acme", "nothing") is None
    assert [each.delivery_id for each in of_kind(read(acme), "delivery")] == ids(acme)[:1]
