"""Flags are checked against the organization's billing, and rejected in whatever form."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from receiver.sandbox.provider.billing import ORDINARY, PRODUCTS, Rejection
from tests.support.provider_ends import ALL_FLAGS, SECRET, Receiver, ServedProvider, opencard, receiver, webhooks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.sandbox.provider import ProviderOrganization

FREE = {flag: True for flag in ALL_FLAGS if flag.startswith(("tpa_", "card_holder_"))}
TRANSACTIONS = {flag: True for flag in ALL_FLAGS if flag.startswith("card_transaction_")}


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard() as party:
        yield party


@pytest.fixture
def ems() -> Iterator[Receiver]:
    with receiver() as ems:
        yield ems


def ordinary(party: ServedProvider) -> ProviderOrganization:
    billing = party.provider.state.add_billing(ORDINARY)
    return party.provider.state.add_organization("acme", billing_id=billing.id)


@pytest.mark.parametrize("flag", ["receipt_fetched", "transaction_true_vat", "aland_index"])
def test_a_flag_without_its_product_is_rejected(party: ServedProvider, ems: Receiver, flag: str) -> None:
    acme = ordinary(party)
    refused = party.post(webhooks_of(acme), {"url": ems.url, **TRANSACTIONS, flag: True}, status=422)
    assert list(refused["errors"]) == [flag]
    assert (party.provider.state.webhooks(), ems.questions) == ([], [])
    made = party.post(webhooks_of(acme), {"url": ems.url, **FREE, **TRANSACTIONS, "deedster": True})
    assert made["card_transaction_cleared"]


def test_an_update_is_checked_and_changes_nothing_when_rejected(party: ServedProvider, ems: Receiver) -> None:
    acme = ordinary(party)
    made = party.post(webhooks_of(acme), {"url": ems.url, "secret": SECRET, **TRANSACTIONS})
    path = f"{webhooks_of(acme)}/{made['id']}"
    party.put(path, {"aland_index": True, "enabled": False}, status=422)
    assert party.get(path)["enabled"] is True
    assert acme.billing_id is not None
    party.provider.state.change_billing(acme.billing_id, PRODUCTS)
    assert party.put(path, {"aland_index": True})["aland_index"] is True


def test_without_a_billing_only_free_flags_are_allowed(party: ServedProvider, ems: Receiver) -> None:
    acme = party.provider.state.add_organization("acme", billing_id=None)
    for flag in [*TRANSACTIONS, "receipt_fetched", "deedster", "transaction_line_items"]:
        assert flag in party.post(webhooks_of(acme), {"url": ems.url, flag: True}, status=422)["errors"]
    assert party.post(webhooks_of(acme), {"url": ems.url, **FREE})["tpa_signed"]


STATUSES = {"bad-request": 400, "forbidden": 403, "conflict": 409}


@pytest.mark.parametrize("style", get_args(Rejection))
def test_each_style_of_rejection_has_its_status_and_names(ems: Receiver, style: Rejection) -> None:
    with opencard(rejection=style) as party:
        acme = ordinary(party)
        wanted = {"url": ems.url, "aland_index": True, "receipt_fetched": True}
        said = str(party.post(webhooks_of(acme), wanted, status=STATUSES.get(style, 422)))
    named = {flag for flag in ("aland_index", "receipt_fetched", "deedster") if flag in said}
    both = {"aland_index", "receipt_fetched"}
    assert named == {"errors": both, "sentence": both, "echo": both, "one": {"receipt_fetched"}}.get(style, set())


@pytest.mark.parametrize(
    ("style", "switches"),
    [
        ("booleans", {"product_transaction": True, "product_digital_receipt": False, "product_aland_index": False}),
        ("numbers", {"product_transaction": 1, "product_digital_receipt": 0, "product_aland_index": 0}),
        ("list", {"products": ["product_transaction"]}),
    ],
)
def test_billings_are_listed_in_each_style(style: str, switches: dict[str, object]) -> None:
    with opencard(billing_style=style) as party:
        acme = ordinary(party)
        assert party.get("/accounts/1/organizations")["data"][0]["billing_id"] == acme.billing_id
        [billing] = party.get("/accounts/1/billings")["data"]
    assert billing["id"] == acme.billing_id
    assert switches.items() <= billing.items()


def test_organizations_get_products_in_turn(party: ServedProvider) -> None:
    state = party.provider.state
    state.add_organizations(["a", "b", "c"], [frozenset(PRODUCTS), None])
    first, second, third = state.organizations()
    assert first.billing_id == third.billing_id != second.billing_id is None


def test_deleting_a_tpa_or_an_organization_deletes_its_webhooks(party: ServedProvider, ems: Receiver) -> None:
    acme, globex = (party.provider.state.add_organization(name) for name in ("acme", "globex"))
    for organization in (acme, globex):
        party.register(organization, ems.url)
    party.provider.state.remove_tpa(acme.id)
    assert party.get(webhooks_of(acme))["total"] == 0
    party.provider.state.remove_organization(globex.id)
    assert party.call("GET", webhooks_of(globex)).status_code == 404
    assert ems.arrived == []


def test_a_page_is_as_long_as_asked_where_that_is_honoured() -> None:
    for honours, length in ((True, 4), (False, 2)):
        with opencard(per_page=2, honours_per_page=honours) as party:
            party.provider.state.add_organizations("abcd", [None])
            assert len(party.get("/accounts/1/organizations", per_page=100)["data"]) == length


@pytest.mark.parametrize("status", [404, 405])
def test_a_route_can_be_switched_off(status: int) -> None:
    with opencard(routes_off=frozenset(["/accounts/<int:account>/billings"]), route_off_status=status) as party:
        assert party.call("GET", "/accounts/1/billings").status_code == status
        assert party.call("GET", "/accounts/1/organizations").status_code == 200


def test_the_account_is_changed_over_http(party: ServedProvider) -> None:
    made = party.http.post("/sandbox/organizations", json={"reference_id": "new", "products": ["product_transaction"]})
    number = made.json()["id"]
    state = party.provider.state
    assert made.status_code == 201
    assert state.billing(state.organization(number).billing_id or 0).products == ORDINARY
    changed = party.http.put(f"/sandbox/organizations/{number}/products", json={"products": list(PRODUCTS)})
    assert state.billing(changed.json()["billing_id"]).products == set(PRODUCTS)
    webhook = state.add_webhook(number, "http://127.0.0.1:1/hook")
    assert party.http.delete(f"/sandbox/webhooks/{webhook.id}").status_code == 204
    assert party.http.delete(f"/sandbox/organizations/{number}").status_code == 204
    assert state.organizations() == []
