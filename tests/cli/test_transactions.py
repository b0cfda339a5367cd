"""``receiver transactions``, as operators run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from receiver.cli import main
from tests.support.factories import enrichment, snapshot
from tests.support.replay_steps import ids

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

Run = Callable[..., Result]
ID = "transaction-1"


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def invoke(*arguments: str) -> Result:
        only = {**dict.fromkeys(environment), "DATABASE_URL": environment["DATABASE_URL"]}
        result = CliRunner(env=only).invoke(main, ["transactions", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def bought(acme: Acme) -> Acme:
    acme.tell("card.transaction.authorized", snapshot("authorized", accounting_amount=Decimal("1200.00")))
    acme.tell("card.transaction.cleared", snapshot("cleared", accounting_amount=Decimal("1249.06")))
    acme.tell("transaction.line.items", enrichment("transaction.line.items"))
    return acme


def test_purchase_is_printed_with_its_timeline(bought: Acme, run: Run) -> None:
    result = run("show", ID)
    assert (result.exit_code, result.stderr) == (0, "")
    for part in (
        "Café Müller",
        "Coffee beans, 0.75 kg",
        "booking of 109.38 EUR, 1249.06 SEK",
        "accounting_amount: 1200.00 → 1249.06",
        f"delivery {ids(bought)[0]}: card.transaction.authorized received by webhook",
    ):
        assert part in result.stdout, part
    assert "employee-17" not in result.stdout


def test_document_has_the_same(bought: Acme, run: Run) -> None:
    document = json.loads(run("show", ID, "--organization", "acme", "--json").stdout)
    assert document["transaction"]["accounting_amount"] == "1249.06"
    assert [each["kind"] for each in document["timeline"]][:2] == ["delivery", "event"]
    assert document["ledger"]["receipt_state"] == "none"
    del bought


def test_id_of_two_organizations_asks_for_one(organizations: Organizations, run: Run) -> None:
    for name in ("acme", "globex"):
        payload = snapshot("cleared", organization={"reference_id": name})
        organizations.adopt(name).tell("card.transaction.cleared", payload)
    result = run("show", ID)
    assert result.exit_code == 1
    assert "several organizations have a transaction 'transaction-1': acme, globex" in result.stderr
    assert run("show", ID, "--organization", "globex").stdout.startswith("organization  globex\n")


def test_unknown_id_says_where_to_look(acme: Acme, run: Run) -> None:
    result = run("show", "nothing")
    assert (result.exit_code, "has the id 'nothing'" in result.stderr) == (1, True)
    assert "has no webhook" in run("show", ID, "--organization", "acne").stderr
    del acme
