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
    acme.apply("card.transaction.authorized", snapshot("authorized", accounting_amount=Decimal("1200.00")))
    acme.apply("card.transaction.cleared", snapshot("cleared", accounting_amount=Decimal("1249.06")))
    acme.apply("transaction.line.items", enrichment("transaction.line.items"))
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
        organizations.adopt(name).apply("card.transaction.cleared", payload)
    result = run("show", ID)
    assert result.exit_code == 1
    assert "several organizations have a transaction 'transaction-1': acme, globex" in result.stderr
    assert run("show", ID, "--organization", "globex").stdout.startswith("organization  globex\n")


def test_unknown_id_says_where_to_look(acme: Acme, run: Run) -> None:
    result = run("show", "nothing")
    assert (result.exit_code, "has the id 'nothing'" in result.stderr) == (1, True)
    assert "has no webhook" in run("show", ID, "--organization", "acne").stderr
    del acme


def test_personal_data_are_shown_when_asked_and_recorded(bought: Acme, run: Run) -> None:
    result = run("show", ID, "--personal")
    assert "card_holder_reference_id  employee-17" in result.stdout
    record = bought.row("SELECT action, object, outcome FROM receiver.audit")
    assert tuple(record.values()) == ("transactions show", f"{ID} --personal", "done")
    assert "viewed card holder and payloads" in run("show", ID).stdout
    assert bought.value("SELECT count(*) FROM receiver.audit") == 1


def test_purchases_are_found_as_tickets_name_them(bought: Acme, run: Run) -> None:
    found = run("list", "--organization", "acme", "--merchant", "müller", "--amount", "109,38", "--on", "2026-02-13")
    assert (found.exit_code, found.stderr) == (0, "")
    heading, line = found.stdout.splitlines()
    assert heading.split()[:3] == ["transaction", "day", "organization"]
    assert line.split()[:2] == [ID, "2026-02-13"]
    assert run("list", "--amount", "100", "--tolerance", "9").stdout == "no purchases match\n"
    document = json.loads(run("list", "--amount", "100", "--tolerance", "10", "--currency", "eur", "--json").stdout)
    assert [row["id"] for row in document["transactions"]] == [ID]
    assert document["not_applied"]["matching"] == []
    del bought


@pytest.mark.parametrize("option", [("--card-holder", "employee-17"), ("--last-four", "4242")])
def test_each_search_for_a_person_is_recorded(bought: Acme, run: Run, option: tuple[str, str]) -> None:
    assert ID in run("list", *option, "--organization", "acme").stdout
    run("list", "--merchant", "müller")
    record = bought.row("SELECT action, object FROM receiver.audit")
    assert record == {"action": "transactions list", "object": f"--organization acme {option[0]}"}


def test_pages_of_purchases_continue(acme: Acme, run: Run) -> None:
    for number in range(3):
        acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction=f"t{number}"))
    acme.process()
    first = run("list", "--limit", "2")
    before = first.stderr.removeprefix("2 lines; there are more: --before ").strip()
    second = json.loads(run("list", "--limit", "2", "--before", before, "--json").stdout)
    assert ([row["id"] for row in second["transactions"]], second["before"]) == (["t0"], None)


def test_delivery_that_may_be_the_purchase_is_named(acme: Acme, run: Run) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", accounting_amount="much"))
    (delivery,) = ids(acme)
    said = run("list", "--organization", "acme", "--merchant", "café", "--amount", "109.38").stdout
    assert "no purchases match" in said
    assert "not applied; may be the purchase you search for (receiver deliveries show):" in said
    heading, row = said.splitlines()[-2:]
    assert heading.split() == ["delivery", "status", "organization", "day", "merchant", "amount", "error"]
    assert row.split()[:3] == [str(delivery), "dead", "acme"]
    assert "109.38 EUR" in row
    assert "1 delivery that was not applied was compared; none matches" in run("list", "--merchant", "kiosk").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--amount", "1.249,06"), "invalid amount"),
        (("--on", "12 October"), "invalid day"),
        (("--on", "2026-10-12", "--to", "2026-10-13"), "give either --on, or --from and --to"),
        (("--before", "2"), "is not a value that the list printed"),
        (("--last-four", "12"), "needs four digits"),
        (("--currency", "kr"), "needs three letters"),
        (("--from", "2026-02-10", "--to", "2026-02-01"), "--from 2026-02-10 is after --to 2026-02-01"),
        (("--tolerance", "1"), "--tolerance needs --amount"),
    ],
)
def test_impossible_search_is_wrong_usage(acme: Acme, run: Run, options: tuple[str, ...], said: str) -> None:
    result = run("list", *options)
    assert (result.exit_code, said in result.stderr) == (2, True)
    del acme
