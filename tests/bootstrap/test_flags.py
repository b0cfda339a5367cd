"""Which flags an organization may have, and what is asked for when OpenCard rejects some. All pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.bootstrap.flags import (
    EVENT_OF,
    GROUPS,
    NEED_NO_BILLING,
    TRANSACTIONS,
    Unavailable,
    basis_of,
    by_reason,
    in_words,
    subscribe,
    unavailable_flags,
)
from receiver.errors import AccessDenied, ApiUnavailable, Conflict, InvalidRequest, OpenCardError
from receiver.opencard.billings import PRODUCT_FLAGS, Billing
from receiver.opencard.webhooks import Organization

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ALL = frozenset(EVENT_OF)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
UNREADABLE = None


class OpenCard:
    """Takes webhooks whose flags are all *allowed*, and rejects others in *words* that may name the flags."""

    def __init__(
        self,
        allowed: Collection[str],
        words: Callable[[frozenset[str]], str] = lambda _: "no",
        kind: type[OpenCardError] = InvalidRequest,
    ) -> None:
        self.allowed = frozenset(allowed)
        self.words = words
        self.kind = kind
        self.registered: list[frozenset[str]] = []
        self.asked: list[frozenset[str]] = []

    def __call__(self, flags: frozenset[str]) -> int:
        self.asked.append(flags)
        if flags - self.allowed:
            error = self.kind("rejected")
            error.answer = self.words(flags - self.allowed)
            raise error
        self.registered.append(flags)
        return len(self.registered)


NAMING = {
    "all by their fields": lambda flags: str({"errors": {flag: ["no"] for flag in flags}}),
    "one at a time": lambda flags: f"The {min(flags)} is not allowed.",
    "by their events": lambda flags: ", ".join(EVENT_OF[flag] for flag in flags),
    "by their products": lambda flags: next(
        (product for product, those in PRODUCT_FLAGS.items() if those & flags), " ".join(flags)
    ),
}


@pytest.mark.parametrize("words", NAMING.values(), ids=NAMING.keys())
@pytest.mark.parametrize("kind", [InvalidRequest, AccessDenied, Conflict])
def test_named_flags_are_left_out(words: Callable[[frozenset[str]], str], kind: type[OpenCardError]) -> None:
    allowed = NEED_NO_BILLING | TRANSACTIONS
    opencard = OpenCard(allowed, words, kind)
    _, rejected = subscribe(opencard, ALL)
    assert opencard.registered == [allowed]
    assert rejected.keys() == ALL - allowed


def test_without_names_each_group_is_tried() -> None:
    allowed = NEED_NO_BILLING | TRANSACTIONS | {"aland_index"}
    opencard = OpenCard(allowed)
    _, rejected = subscribe(opencard, ALL)
    assert opencard.registered == [NEED_NO_BILLING | TRANSACTIONS, allowed]
    assert rejected.keys() == ALL - allowed
    assert len(opencard.asked) <= 2 + len(GROUPS)


def test_an_answer_that_repeats_all_flags_names_none() -> None:
    opencard = OpenCard(NEED_NO_BILLING | TRANSACTIONS, lambda _: " ".join(ALL))
    subscribe(opencard, ALL)
    assert opencard.registered[-1] == NEED_NO_BILLING | TRANSACTIONS


@given(
    allowed_groups=st.sets(st.sampled_from(GROUPS)),
    wanted=st.frozensets(st.sampled_from(sorted(ALL))),
    current=st.frozensets(st.sampled_from(sorted(ALL))),
    words=st.sampled_from([lambda _: "", *NAMING.values()]),
)
def test_an_organization_ends_with_all_it_may_have(
    allowed_groups: set[frozenset[str]],
    wanted: frozenset[str],
    current: frozenset[str],
    words: Callable[[frozenset[str]], str],
) -> None:
    allowed = NEED_NO_BILLING.union(*allowed_groups)
    opencard = OpenCard(allowed, words)
    result, rejected = subscribe(opencard, wanted, current=current & wanted)
    assert opencard.registered[-1] == wanted & allowed
    assert rejected.keys() == wanted - allowed
    assert result == len(opencard.registered)
    for flags in opencard.registered:
        assert flags >= current & wanted & allowed or not (current & wanted) <= allowed


def test_flags_that_are_on_are_never_switched_off_on_the_way() -> None:
    current = NEED_NO_BILLING | TRANSACTIONS | {"aland_index"}
    opencard = OpenCard(current)
    subscribe(opencard, ALL, current=current)
    assert [flags for flags in opencard.asked if not flags >= current] == []


def test_a_rejection_for_another_reason_is_raised() -> None:
    opencard = OpenCard([], lambda _: "The url must be reachable.")
    with pytest.raises(InvalidRequest, match="rejected"):
        subscribe(opencard, ALL)
    assert len(opencard.asked) == 3


def test_another_error_ends_it_at_once() -> None:
    opencard = OpenCard([], kind=ApiUnavailable)
    with pytest.raises(ApiUnavailable):
        subscribe(opencard, ALL)
    assert len(opencard.asked) == 1


def organization(**fields: object) -> Organization:
    return Organization.read({"id": 7, "reference_id": "acme", **fields})


def test_the_billing_says_what_is_unavailable() -> None:
    billings = {"12": Billing("12", {"product_transaction": True, "product_digital_receipt": False})}
    found = unavailable_flags(organization(billing_id=12), billings, {}, retry_before=NOW)
    assert found.keys() == {"receipt_fetched", "transaction_true_vat"}
    assert in_words(found) == [
        "receipts, VAT: not in this client's billing (product_digital_receipt is off in billing 12)"
    ]
    assert by_reason(found)[0]["events"] == ["receipt.fetched", "transaction.true.vat"]


def test_without_a_billing_only_flags_that_need_none_are_left() -> None:
    found = unavailable_flags(organization(billing_id=None), UNREADABLE, {}, retry_before=NOW)
    assert found.keys() == ALL - NEED_NO_BILLING
    assert "assign one at OpenCard" in in_words(found)[0]


def test_where_nothing_is_known_everything_is_asked_for() -> None:
    for one in (organization(), organization(billing_id="x")):
        assert unavailable_flags(one, UNREADABLE, {}, retry_before=NOW) == {}
        assert unavailable_flags(one, {}, {}, retry_before=NOW) == {}


def test_a_rejection_is_remembered_until_it_is_retried() -> None:
    acme = organization(billing_id=12)
    before = {"deedster": Unavailable("no", NOW, basis_of(acme, UNREADABLE))}
    assert unavailable_flags(acme, UNREADABLE, before, retry_before=NOW - timedelta(seconds=1)) == before
    assert unavailable_flags(acme, UNREADABLE, before, retry_before=None) == before
    assert unavailable_flags(acme, UNREADABLE, before, retry_before=NOW) == {}


@pytest.mark.parametrize(
    ("changed", "billings"),
    [
        ({"billing_id": 13}, UNREADABLE),
        ({"billing_id": 12}, {"12": Billing("12", {"product_transaction": True})}),
        ({}, UNREADABLE),
    ],
    ids=["another billing", "the billing can be read", "no billing is reported"],
)
def test_a_rejection_ends_with_what_it_was_based_on(
    changed: dict[str, object], billings: dict[str, Billing] | None
) -> None:
    before = {"deedster": Unavailable("no", NOW, basis_of(organization(billing_id=12), UNREADABLE))}
    found = unavailable_flags(organization(**changed), billings, before, retry_before=NOW - timedelta(days=1))
    assert "deedster" not in found
