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
    UnavailableFlag,
    basis_of,
    by_reason,
    describe_unavailable,
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


class PickyOpenCard:
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
    opencard = PickyOpenCard(allowed, words, kind)
    _, rejected = subscribe(opencard, ALL)
    assert opencard.registered == [allowed]
    assert rejected.keys() == ALL - allowed


def test_rejection_without_names_tries_each_group() -> None:
    allowed = NEED_NO_BILLING | TRANSACTIONS | {"aland_index"}
    opencard = PickyOpenCard(allowed)
    _, rejected = subscribe(opencard, ALL)
    assert opencard.registered == [NEED_NO_BILLING | TRANSACTIONS, allowed]
    assert rejected.keys() == ALL - allowed
    assert len(opencard.asked) <= 2 + len(GROUPS)


def test_rejection_that_repeats_all_flags_names_none() -> None:
    opencard = PickyOpenCard(NEED_NO_BILLING | TRANSACTIONS, lambda _: " ".join(ALL))
    subscribe(opencard, ALL)
    assert opencard.registered[-1] == NEED_NO_BILLING | TRANSACTIONS


@given(
    allowed_groups=st.sets(st.sampled_from(GROUPS)),
    desired=st.frozensets(st.sampled_from(sorted(ALL))),
    current=st.frozensets(st.sampled_from(sorted(ALL))),
    words=st.sampled_from([lambda _: "", *NAMING.values()]),
)
def test_organization_gets_every_flag_it_may_have(
    allowed_groups: set[frozenset[str]],
    desired: frozenset[str],
    current: frozenset[str],
    words: Callable[[frozenset[str]], str],
) -> None:
    allowed = NEED_NO_BILLING.union(*allowed_groups)
    opencard = PickyOpenCard(allowed, words)
    result, rejected = subscribe(opencard, desired, current=current & desired)
    assert opencard.registered[-1] == desired & allowed
    assert rejected.keys() == desired - allowed
    assert result == len(opencard.registered)
    for flags in opencard.registered:
        assert flags >= current & desired & allowed or not (current & desired) <= allowed


def test_flags_already_on_are_never_switched_off() -> None:
    current = NEED_NO_BILLING | TRANSACTIONS | {"aland_index"}
    opencard = PickyOpenCard(current)
    subscribe(opencard, ALL, current=current)
    assert [flags for flags in opencard.asked if not flags >= current] == []


def test_rejection_for_another_reason_is_raised() -> None:
    opencard = PickyOpenCard([], lambda _: "The url must be reachable.")
    with pytest.raises(InvalidRequest, match="rejected"):
        subscribe(opencard, ALL)
    assert len(opencard.asked) == 3


def test_other_error_is_raised_at_once() -> None:
    opencard = PickyOpenCard([], kind=ApiUnavailable)
    with pytest.raises(ApiUnavailable):
        subscribe(opencard, ALL)
    assert len(opencard.asked) == 1


def organization(**fields: object) -> Organization:
    return Organization.read({"id": 7, "reference_id": "acme", **fields})


def test_billing_decides_which_flags_are_unavailable() -> None:
    billings = {"12": Billing("12", {"product_transaction": True, "product_digital_receipt": False})}
    found = unavailable_flags(organization(billing_id=12), billings, {}, retry_before=NOW)
    assert found.keys() == {"receipt_fetched", "transaction_true_vat"}
    assert describe_unavailable(found) == [
        "receipts, VAT: not in this organization's billing (product_digital_receipt is off in billing 12)"
    ]
    assert by_reason(found)[0]["events"] == ["receipt.fetched", "transaction.true.vat"]


def test_missing_billing_leaves_flags_that_need_none() -> None:
    found = unavailable_flags(organization(billing_id=None), UNREADABLE, {}, retry_before=NOW)
    assert found.keys() == ALL - NEED_NO_BILLING
    assert "assign one at OpenCard" in describe_unavailable(found)[0]


def test_unknown_billing_requests_every_flag() -> None:
    for one in (organization(), organization(billing_id="x")):
        assert unavailable_flags(one, UNREADABLE, {}, retry_before=NOW) == {}
        assert unavailable_flags(one, {}, {}, retry_before=NOW) == {}


def test_rejection_is_kept_until_it_is_retried() -> None:
    acme = organization(billing_id=12)
    before = {"deedster": UnavailableFlag("no", NOW, basis_of(acme, UNREADABLE))}
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
def test_rejection_ends_when_its_basis_changes(changed: dict[str, object], billings: dict[str, Billing] | None) -> None:
    before = {"deedster": UnavailableFlag("no", NOW, basis_of(organization(billing_id=12), UNREADABLE))}
    found = unavailable_flags(organization(**changed), billings, before, retry_before=NOW - timedelta(days=1))
    assert "deedster" not in found
