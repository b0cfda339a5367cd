"""Rare changes of the ledger: the same event again, and a purchase that leaves the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.factories import card_holder, snapshot
from tests.support.verifying import rebuilt

if TYPE_CHECKING:
    from tests.conftest import Acme


def send_again_after_a_day(acme: Acme) -> None:
    """Let OpenCard send the clearing of the purchase ``again`` twice, more than a day apart: two events."""
    cleared = snapshot("cleared", transaction="again")
    acme.deliver_ok("card.transaction.cleared", cleared)
    acme.execute("UPDATE receiver.stored_deliveries SET occurred_at = occurred_at - interval '25 hours'")
    acme.process()
    acme.apply("card.transaction.cleared", cleared)
    assert acme.value("SELECT count(*) FROM ems.events WHERE transaction_id = 'again'") == 2


def create_card_holder_again(acme: Acme) -> None:
    """Let a card holder be created, deleted, and created again with equal data: three events."""
    for event in ("created", "deleted", "created"):
        acme.apply(f"card_holder.{event}", card_holder())


def book_by_mistake(acme: Acme, transaction: str) -> None:
    """Have a purchase in the ledger that is authorized only, as if the rules for the rows had been wrong."""
    acme.apply("card.transaction.authorized", snapshot("authorized", transaction=transaction))
    acme.execute(
        "UPDATE ems.transactions SET state = 'cleared', booked_on = '2026-02-13' WHERE id = :transaction",
        transaction=transaction,
    )


def rebuild_by_corrected_rules(acme: Acme) -> None:
    """Compute the rows again, so that what was booked by mistake leaves the ledger."""
    assert rebuilt(acme)
    assert acme.value("SELECT count(*) FROM ems.ledger WHERE state = 'cleared' AND cleared_at IS NULL") == 0
