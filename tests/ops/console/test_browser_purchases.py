"""A ticket names a merchant, a day and an amount: in a real browser, from the overview to what happened to it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from receiver.sandbox.embedded import free_port
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from tests.support.browser import CHROMIUM, WIDTHS, BrowserUser, person
from tests.support.console_pages import EVENT, address, of_ticket
from tests.support.factories import enrichment, snapshot
from tests.support.replay_steps import ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.conftest import Acme

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}: apt-get install chromium"),
]
SCREENS = {"telephone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 800}}
LONG = "W" * 300


@pytest.fixture
def url(acme: Acme, console_environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A web process with the console, on the database of the test."""
    del acme  # asked for so that there is a webhook
    environment = {
        **local_environment(
            database_url=console_environment["DATABASE_URL"],
            redis_url=console_environment["REDIS_URL"],
            port=free_port(),
            encryption_key=console_environment["ENCRYPTION_KEYS"],
        ),
        "OPS_USERS": console_environment["OPS_USERS"],
        "SECRET_KEY": console_environment["SECRET_KEY"],
    }
    with ProcfileProcesses(environment, tmp_path / "logs") as processes:
        processes.start("web")
        address_of_console = environment["PUBLIC_URL"]
        wait_until_ready(address_of_console, processes)
        yield address_of_console


def search(operator: BrowserUser) -> None:
    """Fill in what the ticket says: acme misses a purchase at Café Müller of 12 October over 245.50."""
    operator.click("link", "Purchases")
    operator.page.wait_for_url("**/ops/purchases/")
    operator.page.get_by_label("Organization", exact=True).select_option("acme")
    operator.page.get_by_label("Day", exact=True).fill("2026-10-12")
    operator.page.get_by_label("Merchant", exact=True).fill("Café Müller")
    operator.page.get_by_label("Amount", exact=True).fill("245.50")
    operator.click("button", "Search")
    operator.page.wait_for_url("**/ops/purchases/?organization=acme*")
    assert operator.is_as_wide_as_its_page()


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_purchase_of_a_ticket_is_found_in_three_clicks(
    browser: Browser,
    acme: Acme,
    url: str,
    screen: str,
    *,
    scripts: bool,
) -> None:
    acme.apply("card.transaction.authorized", {**of_ticket(accounting_amount=Decimal(2800)), "state": "authorized"})
    acme.apply(EVENT, of_ticket())
    acme.apply(EVENT, of_ticket(id="t2", purchase_date="2026-10-13"))
    acme.apply(EVENT, snapshot("cleared", transaction="t3"))
    options: dict[str, Any] = {"java_script_enabled": scripts, "viewport": SCREENS[screen]}
    with person(browser, url, **options) as operator:
        operator.sign_in("olga")
        search(operator)
        operator.click("link", re.compile("^Café Müller$"))
        operator.page.wait_for_url("**/ops/purchases/purchase?*")
        assert len(operator.clicks) == 3
        for words in ("transaction-1", "booked on 2026-10-12", "Timeline", "accounting_amount", "2800"):
            assert operator.sees(words), words
        assert not operator.sees("employee-17")
        assert operator.is_as_wide_as_its_page()


@pytest.mark.parametrize("screen", SCREENS)
def test_purchase_that_was_not_applied_is_found_as_well(
    browser: Browser,
    acme: Acme,
    url: str,
    screen: str,
) -> None:
    acme.apply(EVENT, of_ticket(accounting_amount="much"))
    (delivery,) = ids(acme)
    with person(browser, url, viewport=SCREENS[screen]) as operator:
        operator.sign_in("olga")
        search(operator)
        assert operator.sees("No purchases match.")
        assert operator.sees("1 delivery may belong to the purchase")
        operator.click("link", re.compile(rf"^{delivery}$"))
        operator.page.wait_for_url(f"**/ops/deliveries/{delivery}")
        assert len(operator.clicks) == 3
        assert operator.sees("accounting_amount")


def test_pages_of_purchases_fit_every_screen(browser: Browser, acme: Acme, url: str) -> None:
    acme.apply(EVENT, of_ticket(id=LONG[:255], purchase_merchant_common=LONG, mcc_text=LONG))
    acme.apply(EVENT, of_ticket(id=LONG[:255], purchase_merchant_common=f"{LONG}2", mcc_text=f"{LONG}2"))
    acme.apply("transaction.line.items", enrichment("transaction.line.items", transaction=LONG[:255]))
    acme.apply(EVENT, of_ticket(id=LONG[:255], accounting_amount=LONG))
    pages = (
        "/ops/purchases/",
        "/ops/purchases/?merchant=W&currency=SEK",
        address(LONG[:255]),
        address(LONG[:255], personal="1"),
    )
    with person(browser, url, java_script_enabled=True) as viewer:
        viewer.sign_in("vera")
        for page in pages:
            viewer.page.goto(f"{url}{page}")
            assert viewer.sees("WWW")
            for width in WIDTHS:
                viewer.page.set_viewport_size({"width": width, "height": 800})
                assert viewer.is_as_wide_as_its_page(), (page, width)
            unlabelled = viewer.page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length)"
                ".map(e => e.name)"
            )
            assert unlabelled == [], page
