"""No search for purchases reads the table, however many there are."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.ops.purchases import PurchaseFilter, find_purchases
from tests.support.filled_tables import read_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

QUESTIONS: dict[str, dict[str, Any]] = {
    "everything": {},
    "an organization": {"organizations": ("org-7",)},
    "a day": {"first_day": date(2026, 5, 1), "last_day": date(2026, 5, 1)},
    "merchant of an organization": {"organizations": ("org-7",), "merchant": "café"},
    "an amount": {"amount": Decimal(17)},
    "last four": {"last_four": "4242"},
    "card holder": {"card_holder_reference_id": "employee-7"},
    "invoice": {"invoice_number": "inv-7"},
    "transaction": {"transaction_id": "transaction-4007"},
}


@pytest.fixture
def with_webhooks(filled: Engine) -> Iterator[Engine]:
    with filled.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO receiver.webhooks (organization_id, organization_reference_id, endpoint_key, secret)"
                " SELECT n, 'org-' || n, 'key-' || n, '' FROM generate_series(0, 49) AS n"
            )
        )
    yield filled
    with filled.begin() as connection:
        connection.execute(text("TRUNCATE receiver.webhooks CASCADE"))


class Explaining:
    """A connection that notes the plan of each query before it runs it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.plans: list[dict[str, Any]] = []

    def execute(self, query: Any, parameters: dict[str, Any]) -> Any:
        ((plan,),) = self.connection.execute(text(f"EXPLAIN (FORMAT json) {query.text}"), parameters).all()
        self.plans.append(plan[0]["Plan"])
        return self.connection.execute(query, parameters)


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_search_reads_the_table(with_webhooks: Engine, question: str) -> None:
    with with_webhooks.connect() as connection:
        explaining = Explaining(connection)
        find_purchases(explaining, PurchaseFilter(**QUESTIONS[question]))  # type: ignore[arg-type]  # it is like one
    assert explaining.plans
    for plan in explaining.plans:
        assert "transactions" not in read_whole(plan)
