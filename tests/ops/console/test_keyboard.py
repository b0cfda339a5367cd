"""The journeys of an operator in a real browser by the keyboard alone: nothing needs a mouse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from receiver.app import create_app
from receiver.ops.issues import watch
from receiver.settings import load_settings
from tests.support.browser import CHROMIUM, BrowserUser, person
from tests.support.console_pages import EVENT, WRONG, of_ticket, stored
from tests.support.serving import served
from tests.support.visitor import PASSWORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator

    from tests.conftest import Acme
    from tests.support.world import World

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}: apt-get install chromium"),
]
MAX_TABS = 150


@dataclass
class Keyboard:
    """A user who has no mouse."""

    user: BrowserUser

    def sign_in(self, name: str) -> None:
        self.user.page.goto(f"{self.user.url}/ops/")
        self.type("Name", name)
        self.type("Password", PASSWORDS[name])
        self.press("button", "Sign in")

    def press(self, role: str, name: str | re.Pattern[str]) -> None:
        """Go to a link or a button, press Enter, and wait for the page that follows."""
        self._reach(self.user.page.get_by_role(role, name=name).first)  # type: ignore[arg-type]  # one of ARIA's names
        with self.user.page.expect_navigation():
            self.user.page.keyboard.press("Enter")

    def type(self, label: str, words: str) -> None:
        self._reach(self.user.page.get_by_label(label, exact=True))
        self.user.page.keyboard.type(words)

    def _reach(self, target: Locator) -> None:
        for _ in range(MAX_TABS):
            self.user.page.keyboard.press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"Tab does not reach {target}")


@pytest.fixture
def url(console_environment: dict[str, str]) -> Iterator[str]:
    app = create_app(load_settings(console_environment))
    with served(app) as address:
        yield address
    app.extensions["receiver.close"]()


def test_failures_of_a_night_are_replayed_by_keyboard(browser: Browser, acme: Acme, url: str) -> None:
    acme.apply(EVENT, WRONG)
    (delivery,) = stored(acme)
    with person(browser, url) as user:
        keyboard = Keyboard(user)
        keyboard.sign_in("olga")
        keyboard.press("link", re.compile("^accounting_amount"))
        keyboard.press("link", re.compile(rf"^{delivery}$"))
        keyboard.press("link", "Replay all of them …")
        keyboard.type("Reason", "OpenCard has corrected it")
        keyboard.press("button", "Replay")
        assert user.sees("OpenCard has corrected it")
    assert acme.value("SELECT reason FROM receiver.replays") == "OpenCard has corrected it"


def test_purchase_of_a_ticket_is_found_by_keyboard(browser: Browser, acme: Acme, url: str) -> None:
    acme.apply(EVENT, of_ticket())
    acme.apply(EVENT, of_ticket(id="t2", purchase_date="2026-10-13"))
    with person(browser, url, locale="en-US") as user:
        keyboard = Keyboard(user)
        keyboard.sign_in("olga")
        keyboard.press("link", "Purchases")
        keyboard.type("Organization", "acme")
        keyboard.type("Day", "10122026")
        keyboard.type("Merchant", "Café Müller")
        keyboard.type("Amount", "245.50")
        keyboard.press("button", "Search")
        assert user.page.get_by_role("link", name="Café Müller", exact=True).count() == 1
        keyboard.press("link", re.compile("^Café Müller$"))
        assert user.sees("Timeline")


def test_inactive_webhook_is_registered_by_keyboard(
    browser: Browser, world: World, console_environment: dict[str, str]
) -> None:
    assert world.bootstrap().failures == []
    world.provider.state.change_webhook(world.registered().id, active=False)
    with world.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE receiver.webhooks SET active = false")
    settings = load_settings(world.environment(console_environment))
    watch.check(world.engine, settings, ())
    app = create_app(settings)
    with served(app) as url, person(browser, url) as user:
        keyboard = Keyboard(user)
        keyboard.sign_in("olga")
        keyboard.press("link", re.compile("not active, OpenCard sends nothing"))
        keyboard.press("link", re.compile(r"^webhook \d+$"))
        keyboard.press("link", "Register again …")
        keyboard.press("button", "Register again")
        assert user.sees("Registered again at OpenCard")
    app.extensions["receiver.close"]()
    assert world.registered().active
