"""Finding a purchase in the console, and everything that happened to it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.console_pages import EVENT, address, ids, links, of_ticket, stored
from tests.support.factories import enrichment
from tests.support.replay_steps import replay

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations
    from tests.support.visitor import Visitor

LIST = "/ops/purchases/"
TICKET = "organization=acme&merchant=caf%C3%A9+m%C3%BCller&amount=245%2C50&on=2026-10-12"


def purchases(page: str) -> list[str]:
    """Return the ids of the purchases that a list shows, in its order."""
    return [link.rpartition("id=")[2] for link in links(page) if link.startswith("/ops/purchases/purchase?")]


def looks(acme: Acme) -> list[tuple[Any, ...]]:
    query = "SELECT actor, action, object FROM receiver.audit WHERE action LIKE 'transactions%' ORDER BY id"
    return [tuple(row.values()) for row in acme.rows(query)]


@pytest.fixture
def bought(acme: Acme) -> Acme:
    acme.apply("card.transaction.authorized", {**of_ticket(accounting_amount=Decimal(2800)), "state": "authorized"})
    acme.apply(EVENT, of_ticket())
    for event in ("receipt.fetched", "transaction.true.vat", "transaction.line.items"):
        acme.apply(event, enrichment(event))
    acme.apply(EVENT, of_ticket(id="t2", original_amount=Decimal(20), purchase_date="2026-10-13"))
    return acme


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["t2", "transaction-1"]),
        (TICKET, ["transaction-1"]),
        ("organization=nobody", []),
        ("on=2026-10-13", ["t2"]),
        ("from=2026-10-13&to=2026-10-31", ["t2"]),
        ("to=2026-10-12", ["transaction-1"]),
        ("amount=246&tolerance=0.5&currency=eur", ["transaction-1"]),
        ("amount=246", []),
        ("transaction=t2", ["t2"]),
        ("card_holder=employee-17", ["t2", "transaction-1"]),
        ("last_four=1111", []),
        ("invoice=inv-7", []),
        ("before=nonsense", ["t2", "transaction-1"]),
    ],
)
def test_filters_of_the_address_narrow_the_list(bought: Acme, viewer: Visitor, query: str, found: list[str]) -> None:
    assert purchases(viewer.get(f"{LIST}?{query}").text) == found
    del bought


@pytest.mark.parametrize(
    "field", ["merchant", "amount", "on", "from", "transaction", "card_holder", "before", "organization"]
)
@pytest.mark.parametrize("value", ["' OR 1=1 --", "%25_\\", "\ud800".encode(errors="surrogatepass"), "x" * 3000])
def test_any_search_text_is_answered_with_a_page(viewer: Visitor, field: str, value: str | bytes) -> None:
    assert viewer.client.get(LIST, query_string={field: value}).status_code == 200


def test_a_wrong_search_shows_nothing(bought: Acme, viewer: Visitor) -> None:
    page = viewer.get("/ops/purchases/?amount=abc&on=monday&card_holder=employee-1").text
    assert "The filter is wrong: Amount: Give an amount such as 245.50. Day: Give a day such as 2026-02-13." in page
    assert purchases(page) == []
    for query, said in {
        "last_four=12": "Give four digits.",
        "currency=kr": "Give three letters.",
        "from=2026-02-10&to=2026-02-01": "Give a day that is not before the first one.",
        "tolerance=1": "Give the amount, too.",
    }.items():
        assert said in viewer.get(f"/ops/purchases/?{query}").text
    assert looks(bought) == [], "nothing was searched for"


def test_search_for_a_person_is_recorded_without_the_person(bought: Acme, viewer: Visitor) -> None:
    viewer.get(f"{LIST}?{TICKET}")
    assert looks(bought) == []
    viewer.get(f"{LIST}?organization=acme&card_holder=employee-17")
    viewer.get(f"{LIST}?last_four=4242")
    assert looks(bought) == [
        ("vera", "transactions list", "--organization acme --card-holder"),
        ("vera", "transactions list", "--last-four"),
    ]


@pytest.mark.usefixtures("short_pages")
def test_list_leads_to_older_purchases_and_back(acme: Acme, viewer: Visitor) -> None:
    for number in range(5):
        acme.deliver_ok(EVENT, of_ticket(id=f"t{number}"))
    acme.process()
    path, seen = f"{LIST}?organization=acme", []
    while path:
        page = viewer.get(path).text
        seen.append(purchases(page))
        path = next((link for link in links(page) if "before=" in link and link not in page_newer(page)), "")
    assert seen == [["t4", "t3"], ["t2", "t1"], ["t0"]]
    assert purchases(viewer.get(page_newer(page)[0]).text) == ["t2", "t1"]


def page_newer(page: str) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(r'rel="prev" href="([^"]+)"', page)]


def test_purchase_is_shown_with_its_timeline(bought: Acme, viewer: Visitor) -> None:
    page = viewer.get(address("transaction-1")).text
    for part in ("Café Müller", "245.50 EUR", "1249.06 SEK", "booked on 2026-10-12", "Coffee beans, 0.75 kg", "15.57"):
        assert part in page, part
    assert re.search(r"accounting_amount</th>\s*<td[^>]*>2800</td>\s*<td[^>]*>1249.06</td>", page)
    assert {f"/ops/deliveries/{number}" for number in stored(bought)[1:]} <= set(links(page))
    assert viewer.get(address("nothing")).status_code == 404
    assert viewer.get("/ops/purchases/purchase").status_code == 404


def test_personal_data_need_a_click_that_is_recorded(bought: Acme, viewer: Visitor) -> None:
    page = viewer.get(address("transaction-1")).text
    for personal in ("employee-17", r"\b4242\b", "files.opencard.invalid"):
        assert not re.search(personal, re.sub(r"<time.*?</time>", "", page)), personal
    assert looks(bought) == []
    (click,) = [link for link in links(page) if "personal=1" in link]
    page = viewer.get(click).text
    for personal in ("employee-17", "4242", "files.opencard.invalid"):
        assert personal in page
    assert looks(bought) == [("vera", "transactions show", "transaction-1 --organization acme --personal")]
    assert "vera viewed card holder and payloads" in viewer.get(address("transaction-1")).text


def test_search_without_result_names_the_dead_delivery(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, of_ticket(accounting_amount="much"))
    acme.apply(EVENT, of_ticket(id="t2", accounting_amount="much", purchase_date="2026-10-11"))
    page = viewer.get(f"{LIST}?{TICKET}").text
    assert "No purchases match." in page
    assert ids(page) == [stored(acme)[1]]
    assert "/ops/deliveries/?status=unresolved&organization=acme" in links(page)
    assert "1 delivery may belong to the purchase" in page
    assert "None can belong to the purchase." in viewer.get(f"{LIST}?merchant=kiosk").text


def test_purchase_that_was_not_applied_says_why(acme: Acme, viewer: Visitor) -> None:
    acme.apply(EVENT, of_ticket(accounting_amount="much"))
    page = viewer.get(address("transaction-1")).text
    assert f"no line: no event of the purchase was applied: delivery {stored(acme)[0]} is dead" in page


def test_delivery_and_replay_lead_to_the_purchase_and_back(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, of_ticket())
    (delivery,) = stored(acme)
    replay(acme, (delivery,))
    number = acme.value("SELECT id FROM receiver.replays")
    page = operator.get(f"/ops/deliveries/{delivery}").text
    (link,) = [link for link in links(page) if link.startswith("/ops/purchases/purchase?")]
    assert f"/ops/replays/{number}" in links(operator.get(link).text)


@pytest.mark.parametrize("name", ["kund/1", "a&b #1", "..", "<script>"])
def test_any_reference_has_a_page(organizations: Organizations, viewer: Visitor, name: str) -> None:
    acme = organizations.adopt(name)
    acme.apply(EVENT, of_ticket(id=name, organization={"reference_id": name}, purchase_merchant_common=name))
    page = viewer.get(LIST).text
    (link,) = [link for link in links(page) if link.startswith("/ops/purchases/purchase?")]
    shown = viewer.get(link)
    assert shown.status_code == 200
    assert "<script>" not in shown.text
    assert "<script>" not in page
