"""axe-core finds nothing on any page, in both colour schemes, on a desk and on a telephone."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from receiver.app import create_app
from receiver.ops.closing import close_month
from receiver.ops.issues import watch
from receiver.settings import load_settings
from tests.support.browser import CHROMIUM, person
from tests.support.console_pages import EVENT, WRONG, stored
from tests.support.factories import snapshot
from tests.support.replay_steps import replay
from tests.support.service_states import add_run
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from receiver.settings import Settings
    from tests.conftest import Acme
    from tests.support.browser import BrowserUser
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}: apt-get install chromium"),
]

SCREENS = {"desk": {"width": 1280, "height": 900}, "telephone": {"width": 390, "height": 844}}


@pytest.fixture
def url(console_environment: dict[str, str]) -> Iterator[str]:
    app = create_app(load_settings(console_environment))
    with served(app) as address:
        yield address
    app.extensions["receiver.close"]()


@pytest.fixture
def pages(acme: Acme, settings: Settings) -> list[str]:
    """Addresses of pages with something on each."""
    acme.apply(EVENT, snapshot("cleared", transaction="t-1"))
    add_run(acme.engine, "acme")
    close_month(acme.engine, "acme", date(2026, 2, 1), by="olga")
    acme.apply(EVENT, WRONG)
    dead, processed = stored(acme)
    add_run(acme.engine, "acme", unconfirmed=1)
    replay(acme, (dead,))
    watch.check(acme.engine, settings, ())
    issue = acme.value("SELECT min(id) FROM receiver.issues")
    webhook = acme.value("SELECT id FROM receiver.webhooks")
    last_replay = acme.value("SELECT max(id) FROM receiver.replays")
    return [
        "",
        "?range=1h",
        "issues/",
        f"issues/{issue}",
        "purchases/",
        "purchases/purchase?organization=acme&id=t-1&personal=1",
        "deliveries/?status=dead",
        f"deliveries/{processed}",
        f"deliveries/{dead}",
        "replays/",
        f"replays/{last_replay}",
        "replays/new?status=dead",
        "webhooks/",
        f"webhooks/{webhook}",
        f"webhooks/{webhook}/test",
        "reconcile/",
        "closings/",
        "closings/close?organization=acme&month=2026-02",
        "closings/certificate?organization=acme&month=2026-02",
        "audit/",
        "nowhere",
    ]


@contextmanager
def looking(browser: Browser, url: str, **options: object) -> Iterator[BrowserUser]:
    with person(browser, url, java_script_enabled=True, **options) as operator:
        yield operator
        operator.complaints[:] = [each for each in operator.complaints if "404 (NOT FOUND)" not in each]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    browser: Browser,
    url: str,
    pages: list[str],
    scheme: str,
    screen: str,
) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    found: dict[str, list[str]] = {}
    with looking(browser, url, color_scheme=scheme, viewport=SCREENS[screen]) as operator:
        for page in ["sign-in", *pages]:
            operator.page.goto(f"{url}/ops/{page}")
            operator.page.evaluate(axe)
            violations = operator.page.evaluate("axe.run(document)")["violations"]
            found |= {
                f"{page}: {each['id']}": [node["html"][:200] for node in each["nodes"][:3]] for each in violations
            }
            if page == "sign-in":
                operator.sign_in("olga")
    assert found == {}
