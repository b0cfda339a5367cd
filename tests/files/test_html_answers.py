"""A login page is never kept as a receipt, whatever announced it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.sandbox.provider import ApiFault

if TYPE_CHECKING:
    from tests.files.conftest import Receipts


@pytest.mark.parametrize("kind", ["login-page", "login-redirect"])
@pytest.mark.parametrize("name", ["1.pdf", "2.png", "3.html"])
def test_a_login_page_is_no_receipt(receipts: Receipts, name: str, kind: str) -> None:
    receipts.apply(name)
    receipts.provider.faults.add(ApiFault(kind, path="/files/", times=2))  # type: ignore[arg-type]
    assert receipts.fetch().failed == 1
    assert "instead of JSON or a file" in receipts.failure() or "login page" in receipts.failure()
    receipts.provider.faults.clear()
    receipts.be_due()
    assert receipts.fetch().stored == 1


@pytest.mark.parametrize("kind", ["login-page", "login-redirect"])
def test_token_refused_with_html_is_renewed_once(receipts: Receipts, kind: str) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault(kind, path="/files/"))  # type: ignore[arg-type]
    assert receipts.fetch().stored == 1
    assert len(receipts.provider.requests.all(path="/oauth/token")) == 2


def test_an_html_receipt_costs_no_second_token(receipts: Receipts) -> None:
    for name in ("1.html", "2.html"):
        receipts.apply(name)
    assert receipts.fetch().stored == 2
    assert len(receipts.provider.requests.all(path="/oauth/token")) == 1


def test_errors_are_asked_for_as_json(receipts: Receipts) -> None:
    receipts.provider.behaviour.html_errors = "page"
    receipts.provider.clients.set_scopes(receipts.client.id, ["files-read"])
    receipts.apply("1.pdf", url=f"{receipts.api_url}/files/receipts/1.exe")
    assert receipts.fetch().failed == 1
    assert receipts.failure() == "OpenCard answers 404: the file was deleted, or its url has expired"
