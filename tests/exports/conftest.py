"""Purchases of all kinds, and the command that exports them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from tests.support.factories import enrichment, sample, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Acme, Organizations

FORMULAS = (
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r1",
    "'=1",
    "''quoted",
    "'",
    "a,b",
    'say "hi"',
    "two\nlines",
)
"""What merchants may be called."""


@pytest.fixture
def filled(organizations: Organizations) -> Acme:
    """Two organizations with purchases whose fields are anything but plain."""
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    for number, merchant in enumerate((*FORMULAS, "", " ", None, "Café Müller \N{SNOWMAN}")):
        result = snapshot(
            "cleared",
            transaction=f"transaction-{number}",
            purchase_merchant=merchant,
            purchase_merchant_common=merchant,
            original_amount=Decimal("-0.1") * 3**number,
            accounting_amount=None if number == 3 else Decimal("12345678901234567.123456789012345678"),
            exchange_rate=Decimal("0.000000001"),
            purchase_time=None if number == 5 else "23:59:59",
        )
        acme.deliver_ok("card.transaction.cleared", result)
    for event in ("transaction.true.vat", "transaction.line.items", "receipt.fetched"):
        acme.deliver_ok(event, enrichment(event))
    for event in ("card_holder.created", "invoice.created"):
        acme.deliver_ok(event, sample(event))
    globex.deliver_ok("card.transaction.authorized", snapshot("authorized", organization={"reference_id": "globex"}))
    acme.process()
    return acme


@pytest.fixture
def export(environment: dict[str, str]) -> Callable[..., Result]:
    def export(*arguments: object) -> Result:
        result = CliRunner(env=environment).invoke(main, ["export", *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return export
