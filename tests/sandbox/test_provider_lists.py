"""Lists in pages, and lists that change while they are read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.provider_ends import opencard, webhooks_of

ORGANIZATIONS = "/accounts/1/organizations"


def references(items: list[Any]) -> list[str]:
    return [item["reference_id"] for item in items]


def test_list_pages_have_fifteen_items_whatever_is_requested() -> None:
    with opencard() as party:
        for number in range(31):
            party.provider.state.add_organization(f"org-{number}")
        first, last = party.get(ORGANIZATIONS, per_page=100), party.get(ORGANIZATIONS, page=3)
    assert set(first) == {"current_page", "data", "per_page", "total", "last_page"}
    assert (first["current_page"], first["per_page"], first["total"], first["last_page"]) == (1, 15, 31, 3)
    assert len(first["data"]) == 15
    assert (last["current_page"], references(last["data"])) == (3, ["org-30"])


def test_the_size_of_pages_can_be_set_at_the_server() -> None:
    with opencard(per_page=2) as party:
        for number in range(5):
            party.provider.state.add_organization(f"org-{number}")
        assert references(party.all_pages(ORGANIZATIONS)) == [f"org-{number}" for number in range(5)]
        party.provider.behaviour.per_page = 5
        assert party.get(ORGANIZATIONS)["last_page"] == 1


def test_empty_list_has_one_page() -> None:
    with opencard() as party:
        assert (party.get(ORGANIZATIONS)["last_page"], party.get(ORGANIZATIONS)["data"]) == (1, [])
        assert party.get(ORGANIZATIONS, page=7)["data"] == []


@pytest.mark.parametrize("page", ["0", "-1", "two", "1.5"])
def test_a_page_that_is_none_is_malformed(page: str) -> None:
    with opencard() as party:
        assert party.call("GET", ORGANIZATIONS, params={"page": page}).status_code == 400


def test_organization_has_contract_and_undocumented_fields() -> None:
    with opencard() as party:
        made = party.provider.state.add_organization("acme", name="Acme AB", buyer_party="5561234567")
        [shown] = party.get(ORGANIZATIONS)["data"]
    known = {"id": made.id, "reference_id": "acme", "tpa_id": made.tpa_id, "account_id": 1, "name": "Acme AB"}
    assert shown.items() > known.items()


def test_a_list_can_shift_under_its_reader() -> None:
    with opencard(per_page=2) as party:
        state = party.provider.state
        made = [state.add_organization(f"org-{number}") for number in range(4)]

        def remove_the_first(path: str, page: int) -> None:
            assert path.endswith(ORGANIZATIONS)
            if page == 2:
                state.remove_organization(made[0].id)

        party.provider.behaviour.before_page = remove_the_first
        assert references(party.all_pages(ORGANIZATIONS)) == ["org-0", "org-1", "org-3"]


def test_a_list_can_change_its_order_between_pages() -> None:
    with opencard(per_page=20) as party:
        for number in range(20):
            party.provider.state.add_organization(f"org-{number}")
        before = references(party.get(ORGANIZATIONS)["data"])
        party.provider.behaviour.before_page = lambda _path, page: party.provider.state.shuffle(page)
        after = references(party.get(ORGANIZATIONS)["data"])
    assert before != after
    assert set(before) == set(after)


def test_removed_organization_removes_its_webhooks() -> None:
    with opencard() as party:
        state = party.provider.state
        acme = state.add_organization("acme")
        state.add_webhook(acme.id, "http://127.0.0.1:1/hook")
        state.remove_organization(acme.id)
        assert state.webhooks() == []
        assert party.call("GET", webhooks_of(acme)).status_code == 404
