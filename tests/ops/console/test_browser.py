"""The console in a real browser, with real processes behind it: what an operator does on the morning after."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.app import create_app
from receiver.sandbox.breakage import break_on_purpose, purchases_to_break, repair
from receiver.sandbox.demo import wait_until_processed
from receiver.sandbox.embedded import free_port
from receiver.sandbox.faults import Faults, schedule
from receiver.sandbox.local import adopt_webhook
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.sandbox.sender import deliver_all
from receiver.settings import load_settings
from tests.support.browser import CHROMIUM, WIDTHS, person
from tests.support.service_states import add_run
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser
    from redis import Redis
    from sqlalchemy import Engine

    from tests.support.openid_provider import OpenIdProvider

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}: apt-get install chromium"),
]

ORGANIZATION = "acme"
BROKEN = 50
TELEPHONE = {"width": 360, "height": 740}
SECONDS = 60


@dataclass
class Morning:
    """A receiver with its processes, of which the deliveries of one organization failed in the night."""

    url: str
    engine: Engine

    def statuses(self) -> dict[str, int]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT status, count(*) FROM receiver.deliveries GROUP BY 1"))
            return {str(row[0]): int(row[1]) for row in found}

    def repair(self) -> None:
        with self.engine.begin() as connection:
            repair(connection)


@pytest.fixture
def morning(engine: Engine, redis: Redis, console_environment: dict[str, str], tmp_path: Path) -> Iterator[Morning]:
    del redis  # asked for so that it runs, empty
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
    settings = load_settings(environment)
    with ProcfileProcesses(environment, tmp_path / "logs") as processes:
        processes.start("web", "worker", "scheduler")
        wait_until_ready(settings.public_url, processes)
        with engine.begin() as connection:
            webhook = adopt_webhook(connection, settings, ORGANIZATION, number=1)
            break_on_purpose(connection, ORGANIZATION)
        sendings = schedule(purchases_to_break(ORGANIZATION, BROKEN), Faults(), 0)
        with ThreadPoolExecutor(1) as apart:  # playwright runs a loop of its own in this thread
            apart.submit(lambda: asyncio.run(deliver_all(sendings, [webhook]))).result()
        wait_until_processed(engine, seconds=SECONDS)
        morning = Morning(settings.public_url, engine)
        try:
            yield morning
        finally:
            morning.repair()


def test_operator_finds_and_replays_failures_in_five_clicks(browser: Browser, morning: Morning) -> None:
    assert morning.statuses() == {"dead": BROKEN}
    with person(browser, morning.url) as operator:
        operator.sign_in("olga")
        assert operator.sees(f"{BROKEN} dead deliveries")
        operator.click("link", re.compile("accounting has no account"))  # what failed: the whole group
        operator.click("link", re.compile(r"^\d+$"))  # one of them: what went wrong, the trace, the payload
        assert operator.sees("Attempt 1: dead")
        assert operator.sees("accounting has no account for the purchases of acme")
        morning.repair()
        operator.click("link", "Replay all of them …")  # how many there are, and by which causes
        operator.page.get_by_label("Reason").fill("the account is there now")
        assert operator.sees(f"Replay {BROKEN} deliveries")
        operator.click("button", "Replay")
        wait_until_replayed(morning)
        operator.click("link", "Refresh")  # shows the result
        assert operator.sees(f"{BROKEN} of {BROKEN} processed")
        assert operator.sees("the account is there now")
        assert len(operator.clicks) == 5
    assert morning.statuses() == {"processed": BROKEN}


def wait_until_replayed(morning: Morning) -> None:
    import stamina  # noqa: PLC0415 - used by this alone

    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=SECONDS, wait_max=0.2):
        with attempt:
            assert morning.statuses().get("dead", 0) == 0


def test_pages_fit_the_screen_and_viewers_have_no_buttons(browser: Browser, morning: Morning) -> None:
    add_run(morning.engine, ORGANIZATION)
    add_run(morning.engine, ORGANIZATION, error="OpenCard answered 503 " + "with many words " * 20)
    with morning.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO receiver.replays (requested_by, reason, filter) VALUES (:by, :reason, '{}')"),
            {"by": "somebody@" + "a-very-long-name." * 8, "reason": "W" * 300},
        )
        connection.execute(
            text(
                "UPDATE receiver.reconcile_runs SET started_at = now() - interval '3 hours 20 minutes',"
                " checked_until = now(), log_entries = 123456, matched = 123456, recovered = 123456"
            )
        )
        issue = connection.scalar(
            text(
                "INSERT INTO receiver.issues (kind, subject, severity, text, count, state, opened_at, first_seen_at,"
                " last_seen_at, by_person) VALUES ('deliveries-dead', :long, 2, :long, 123456, 'open', now(), now(),"
                " now(), false) RETURNING id"
            ),
            {"long": "W" * 300},
        )
        delivery = connection.scalar(text("SELECT max(id) FROM receiver.deliveries"))
        replay = connection.scalar(text("SELECT max(id) FROM receiver.replays"))
    pages = (
        "",
        "deliveries/",
        "deliveries/?status=dead",
        f"deliveries/{delivery}",
        "issues/",
        f"issues/{issue}",
        "replays/",
        f"replays/{replay}",
        "replays/new?status=dead",
        "webhooks/",
        "reconcile/",
        "nowhere",
    )
    with person(browser, morning.url, java_script_enabled=True, viewport=TELEPHONE) as viewer:
        viewer.sign_in("vera")
        for page in pages:
            viewer.page.goto(f"{morning.url}/ops/{page}")
            for width in WIDTHS:
                viewer.page.set_viewport_size({"width": width, "height": TELEPHONE["height"]})
                assert viewer.is_as_wide_as_its_page(), (page, width)
            buttons = viewer.page.get_by_role("button").all_inner_texts()
            assert set(buttons) <= {"Sign out", "Show", "Copy"}, (page, buttons)
            unlabelled = viewer.page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length)"
                ".map(e => e.name)"
            )
            assert unlabelled == [], page
            assert viewer.page.title().endswith("OpenCard receiver")
        viewer.complaints.remove("Failed to load resource: the server responded with a status of 404 (NOT FOUND)")
        viewer.click("button", "Sign out")
        assert viewer.sees("You are signed out.")


def test_user_signs_in_and_out_at_the_openid_provider(
    browser: Browser, openid_environment: dict[str, str], provider: OpenIdProvider, engine: Engine, redis: Redis
) -> None:
    del engine, redis  # asked for so that both are empty
    app = create_app(load_settings(openid_environment))
    with served(app) as url, person(browser, url) as user:
        user.page.goto(f"{url}/ops/reconcile/")
        user.click("link", re.compile("^Sign in with"))
        user.page.wait_for_url(f"{url}/ops/reconcile/")
        assert "jane@example.com, operator" in user.page.locator("header").inner_text()
        user.click("button", "Sign out")
        user.page.wait_for_url(f"{url}/ops/sign-in")  # by way of the provider
        assert provider.asked[-1] == "/logout"
        user.page.goto(f"{url}/ops/reconcile/")
        assert user.sees("Sign in with")
    app.extensions["receiver.close"]()


def test_phones_show_fifty_deliveries_in_a_few_screens(browser: Browser, morning: Morning) -> None:
    with person(browser, morning.url, viewport=TELEPHONE) as operator:
        operator.sign_in("olga")
        for link in operator.page.get_by_role("navigation", name="Console").get_by_role("link").all():
            box = link.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= TELEPHONE["width"], link.inner_text()
        operator.click("link", "Deliveries")
        assert not operator.page.get_by_label("Status").is_visible()
        assert operator.page.evaluate("document.documentElement.scrollHeight") < 60 * BROKEN
        operator.page.get_by_text("Filter", exact=True).click()
        operator.page.get_by_label("Status").select_option("dead")
        operator.click("button", "Show")
        assert operator.page.get_by_role("link", name="Status: dead").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_setting_of_the_system(browser: Browser, morning: Morning, scheme: str) -> None:
    with person(browser, morning.url, color_scheme=scheme) as viewer:
        viewer.page.goto(f"{morning.url}/ops/")
        found = viewer.page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", found))) / 3
        assert (brightness < 60) is (scheme == "dark"), found


def test_select_shows_its_arrow_in_the_dark(browser: Browser, morning: Morning) -> None:
    with person(browser, morning.url, color_scheme="dark") as viewer:
        viewer.sign_in("vera")
        viewer.page.goto(f"{morning.url}/ops/deliveries/")
        arrow = viewer.page.get_by_label("Status").evaluate("e => getComputedStyle(e).backgroundImage")
        (colour,) = re.findall("stroke='%23([0-9a-f]{6})'", arrow)
        assert sum(bytes.fromhex(colour)) / 3 > 180, arrow


def test_copy_button_covers_no_text(browser: Browser, morning: Morning) -> None:
    with morning.engine.connect() as connection:
        dead = connection.scalar(text("SELECT max(delivery_id) FROM receiver.outcomes WHERE status = 'dead'"))
    with person(browser, morning.url, java_script_enabled=True, viewport=TELEPHONE) as operator:
        operator.sign_in("olga")
        operator.page.goto(f"{morning.url}/ops/deliveries/{dead}")
        for name in ("Copy the error", "Copy the payload"):
            button = operator.page.get_by_role("button", name=name, exact=True).bounding_box()
            shown = operator.page.locator(f"[data-copy='{name.removeprefix('Copy ')}']").bounding_box()
            assert button is not None
            assert shown is not None
            assert button["y"] + button["height"] <= shown["y"] or shown["y"] + shown["height"] <= button["y"], name


def test_pages_refresh_themselves_and_show_local_times(browser: Browser, morning: Morning) -> None:
    options = {"java_script_enabled": True, "timezone_id": "Europe/Helsinki", "permissions": ["clipboard-write"]}
    with person(browser, morning.url, **options) as operator:
        operator.page.clock.install()
        operator.sign_in("olga")
        banner = operator.page.locator("#attention")
        assert "attention" in banner.inner_text()
        morning.repair()
        with morning.engine.begin() as connection:
            connection.execute(text("DELETE FROM receiver.outcomes WHERE status = 'dead'"))
        operator.page.clock.run_for(16_000)
        operator.page.get_by_role("link", name=f"{BROKEN} dead deliveries").first.wait_for(state="detached")
        with morning.engine.connect() as connection:
            delivery = connection.scalar(text("SELECT max(id) FROM receiver.deliveries"))
        operator.page.goto(f"{morning.url}/ops/deliveries/{delivery}")
        assert operator.sees("your time)")
        operator.page.get_by_role("button", name="Copy the payload", exact=True).click()
        operator.page.get_by_text("Copied").wait_for()
