"""Closed months in the console: seen by everybody, closed by operators, refused with reasons, and recorded."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.checked import check
from tests.support.factories import snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme
    from tests.support.visitor import Visitor

PAGE = "/ops/closings/"
CLOSE = f"{PAGE}close"
CERTIFICATE = f"{PAGE}certificate?organization=acme&month=2026-02"


def book(acme: Acme) -> None:
    changes: dict[str, Any] = {"accounting_amount": Decimal("125.50"), "purchase_date": "2026-02-13"}
    acme.apply("card.transaction.cleared", snapshot("cleared", **changes))


def close(visitor: Visitor, month: str = "2026-02", **fields: str) -> Any:
    return visitor.post(
        CLOSE, form=f"{CLOSE}?organization=acme&month=2026-02", organization="acme", month=month, **fields
    )


def records(acme: Acme) -> list[tuple[Any, ...]]:
    rows = acme.rows("SELECT actor, object, reason, outcome FROM receiver.audit WHERE action = 'close' ORDER BY id")
    return [tuple(row.values()) for row in rows]


def test_operator_closes_a_month_and_gets_its_certificate(acme: Acme, operator: Visitor) -> None:
    book(acme)
    check(acme)
    answer = close(operator)
    assert (answer.status_code, answer.location) == (302, CERTIFICATE)
    page = operator.get(CERTIFICATE).text
    assert "125.50" in page
    assert acme.value("SELECT sha256 FROM ems.closings") in page
    assert acme.value("SELECT closed_by FROM ems.closings") == "olga"
    assert "125.50" in operator.get(PAGE).text
    assert records(acme) == [("olga", "acme 2026-02", None, "done")]


def test_month_that_is_not_complete_is_refused_with_reasons(acme: Acme, operator: Visitor) -> None:
    acme.apply("card_holder.created", b"{}")
    check(acme)
    answer = close(operator)
    assert answer.status_code == 409
    assert "1 dead card_holder.created" in answer.text
    assert acme.rows("SELECT * FROM ems.closings") == []
    assert records(acme) == [("olga", "acme 2026-02", None, "refused")]
    assert close(operator, reason="OpenCard's test").status_code == 302
    assert "OpenCard&#39;s test" in operator.get(CERTIFICATE).text
    assert records(acme)[1:] == [("olga", "acme 2026-02", "OpenCard's test", "done")]


def test_month_is_closed_after_a_confirmation(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    book(acme)
    check(acme)
    chosen = f"{CLOSE}?organization=acme&month=2026-02"
    page = operator.get(chosen)
    assert (page.status_code, "cannot be opened again" in page.text) == (200, True)
    assert "Close the month</button>" in page.text
    assert "Close the month</button>" not in viewer.get(chosen).text
    assert operator.get(f"{CLOSE}?organization=acme&month=2026").status_code == 400
    assert (acme.rows("SELECT * FROM ems.closings"), records(acme)) == ([], [])


@pytest.mark.parametrize("month", ["", "2026-13", "0000-01", "2026-02x", "february"])
def test_invalid_month_is_named(acme: Acme, operator: Visitor, month: str) -> None:
    del acme  # asked for so that there is an organization
    answer = close(operator, month)
    assert (answer.status_code, "Enter a month such as 2026-10." in answer.text) == (400, True)


def test_viewer_sees_closings_and_closes_none(acme: Acme, operator: Visitor, viewer: Visitor) -> None:
    book(acme)
    check(acme)
    page = viewer.get(PAGE).text
    assert "No closed months." in page
    assert "Only users with the role operator" in page
    assert viewer.post(CLOSE, form="/ops/", organization="acme", month="2026-02").status_code == 403
    assert acme.rows("SELECT * FROM ems.closings") == []
    assert viewer.get(CERTIFICATE).status_code == 404
    close(operator)
    assert "125.50" in viewer.get(CERTIFICATE).text


@pytest.mark.parametrize("month", ["2026", "x", "2026-2", "", "9999-99"])
def test_address_of_no_month_is_not_found(viewer: Visitor, month: str) -> None:
    assert viewer.get(f"{PAGE}certificate?organization=acme&month={month}").status_code == 404
