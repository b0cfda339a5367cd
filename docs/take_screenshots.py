"""Takes pictures of every page of the console: a demo's deliveries, fifty of which fail on purpose.

``make screenshot``. Each page is taken at two widths in both colour schemes, into ``.data/screenshots``; the README's
two are in ``docs/``. Needs a Chromium (``apt-get install chromium``); ``CHROMIUM`` names another one.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import stamina
from playwright.sync_api import sync_playwright
from sqlalchemy import text

from receiver.encryption import Encryption
from receiver.logs import configure_logs
from receiver.opencard.auth import Access
from receiver.ops.issues import watch
from receiver.ops.replay import start_replay
from receiver.ops.rollup import HOUR, count_hour
from receiver.reconcile.run import Reconciler
from receiver.sandbox.breakage import break_on_purpose, purchases_to_break
from receiver.sandbox.console_access import new_console_access
from receiver.sandbox.demo import FAULTS, wait_until_processed
from receiver.sandbox.local import ORGANIZATIONS, local_servers, running_receiver
from receiver.sandbox.onboarding import register
from receiver.sandbox.provider import SCOPES, Provider, deliver_story, environment, serving
from receiver.sandbox.story import Story, make_story
from receiver.settings import LogFormat, load_settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from playwright.sync_api import Page
    from sqlalchemy import Engine

    from receiver.sandbox.console_access import ConsoleAccess
    from receiver.sandbox.local import LocalServers

FOLDER: Final = Path(__file__).parent
EVERY_PAGE: Final = FOLDER.parent / ".data" / "screenshots"
CHROMIUM: Final = os.environ.get("CHROMIUM", "/usr/bin/chromium")
DESKTOP: Final[dict[str, Any]] = {"viewport": {"width": 1280, "height": 960}}
TELEPHONE: Final[dict[str, Any]] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
}
SCREENS: Final = {"desktop": DESKTOP, "phone": TELEPHONE}
SCHEMES: Final = ("light", "dark")
README: Final = {"console": ("desktop", "light"), "console-phone": ("phone", "dark")}
"""The pictures of the overview that the README shows."""
PAGES: Final = {
    "overview": "",
    "issues": "issues/",
    "issue": "issues/{issue}",
    "purchases": "purchases/",
    "purchase": "purchases/purchase?organization={organization}&id={transaction}",
    "deliveries": "deliveries/",
    "deliveries-failed": "deliveries/?status=unresolved",
    "delivery": "deliveries/{delivery}",
    "delivery-failed": "deliveries/{failed}",
    "replays": "replays/",
    "replay": "replays/{replay}",
    "replay-new": "replays/new?status=dead",
    "webhooks": "webhooks/",
    "webhook": "webhooks/1",
    "webhook-test": "webhooks/1/test",
    "reconcile": "reconcile/",
    "closings": "closings/",
    "close": "closings/close?organization={organization}&month=2026-02",
    "audit": "audit/",
    "not-found": "nowhere",
}
"""Name → where it is. The words in braces are columns of ``_EXAMPLES``."""
PURCHASES: Final = 300
BROKEN: Final = 50
HOURS: Final = 24

_STORED: Final = text("SELECT id FROM receiver.deliveries WHERE status <> 'dead' ORDER BY id")
_BROKEN: Final = text("SELECT id FROM receiver.deliveries WHERE status = 'dead' ORDER BY id")
_EXAMPLES: Final = text(
    """
SELECT (SELECT min(id) FROM receiver.issues WHERE kind = 'deliveries-dead') AS issue,
    (SELECT max(id) FROM receiver.replays) AS replay, booked.id AS transaction,
    booked.organization_reference_id AS organization, booked.delivery_id AS delivery,
    (SELECT max(id) FROM receiver.deliveries WHERE status = 'dead') AS failed
FROM ems.transactions AS booked WHERE booked.state = 'invoiced' ORDER BY booked.organization_reference_id, booked.id
LIMIT 1
"""
)
_PROCESSED: Final = text(
    """
UPDATE receiver.outcomes AS outcome SET processed_at = outcome.processed_at - stored.received_at + moved.at
FROM jsonb_to_recordset(CAST(:moved AS jsonb)) AS moved (id bigint, at timestamptz)
JOIN receiver.stored_deliveries AS stored ON stored.id = moved.id WHERE outcome.delivery_id = moved.id
"""
)
_MOVE: Final = text(
    """
UPDATE receiver.stored_deliveries AS delivery SET received_at = moved.at, occurred_at = moved.at
FROM jsonb_to_recordset(CAST(:moved AS jsonb)) AS moved (id bigint, at timestamptz) WHERE delivery.id = moved.id
"""
)


def main() -> None:
    """Start everything, break something, look at it, and take the pictures."""
    configure_logs(level="WARNING", log_format=LogFormat.CONSOLE)
    stamina.instrumentation.set_on_retry_hooks(())  # the sandbox's retries are expected
    if not Path(CHROMIUM).exists():
        sys.exit(f"there is no browser at {CHROMIUM}: apt-get install chromium, or name one in CHROMIUM")
    access = new_console_access()
    with _receiver(access) as (url, engine), sync_playwright() as playwright:
        with engine.connect() as connection:
            examples = connection.execute(_EXAMPLES).mappings().one()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        EVERY_PAGE.mkdir(parents=True, exist_ok=True)
        for (screen, options), scheme in product(SCREENS.items(), SCHEMES):
            page = browser.new_context(**options, color_scheme=scheme).new_page()
            page.goto(f"{url}/ops/sign-in")
            page.screenshot(path=EVERY_PAGE / f"sign-in-{screen}-{scheme}.png", full_page=True)
            _sign_in(page, url, access)
            for name, shown in README.items():
                if shown == (screen, scheme):
                    page.screenshot(path=FOLDER / f"{name}.png")
            for name, path in PAGES.items():
                page.goto(f"{url}/ops/{path.format_map({key: quote(str(examples[key])) for key in examples})}")
                page.screenshot(path=EVERY_PAGE / f"{name}-{screen}-{scheme}.png", full_page=True)
            page.context.close()
        browser.close()
    print(f"pictures of {1 + len(PAGES)} pages in {EVERY_PAGE}")  # noqa: T201 - what the command did


def _sign_in(page: Page, url: str, access: ConsoleAccess) -> None:
    page.goto(f"{url}/ops/")
    page.get_by_label("Name").fill(access.name)
    page.get_by_label("Password").fill(access.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/ops/")


@contextmanager
def _receiver(access: ConsoleAccess) -> Iterator[tuple[str, Engine]]:
    """Run a receiver whose deliveries look like a day's; yield its address and its database."""
    with local_servers("screenshot") as local, serving(provider := Provider()) as api_url:
        for reference in ORGANIZATIONS:
            provider.state.add_organization(reference)
        client = provider.clients.add("screenshot", scopes=SCOPES)
        variables = {**local.environment, **environment(api_url, client), **access.variables, "RECONCILE_INTERVAL": "0"}
        settings = load_settings(variables)
        servers = replace(local, environment=variables, settings=settings)
        with running_receiver(servers):
            register(servers, settings)
            _deliver(provider, servers)
            yield settings.public_url, servers.engine


def _deliver(provider: Provider, servers: LocalServers) -> None:
    story = make_story(seed=1, organizations=ORGANIZATIONS, purchases=PURCHASES)
    _run(deliver_story(provider, story, faults=FAULTS, seed=1, compression=1_500_000))
    wait_until_processed(servers.engine)
    settings = servers.settings
    Reconciler(
        servers.engine, Encryption(settings.encryption_keys), Access.of(settings), grace=timedelta(minutes=15)
    ).run()
    wait_until_processed(servers.engine)
    with servers.engine.begin() as connection:
        break_on_purpose(connection, ORGANIZATIONS[0])
    _run(deliver_story(provider, Story(tuple(purchases_to_break(ORGANIZATIONS[0], BROKEN)))))
    wait_until_processed(servers.engine)
    _spread(servers.engine)
    with servers.engine.connect() as connection:
        broken = tuple(connection.scalars(_BROKEN))
    start_replay(servers.engine, broken[:3], requested_by="olga", reason="try three of them first")
    wait_until_processed(servers.engine)
    watch.check(servers.engine, settings, ())


def _spread(engine: Engine) -> None:
    """Have the deliveries of the demo's seconds come over a day, few of them in the night."""
    chance = Random(1)  # noqa: S311 - the same picture each time
    now = datetime.now(UTC)
    hours = [now.replace(minute=0, second=0, microsecond=0) - number * HOUR for number in range(HOURS)]
    weights = [1.2 - math.cos(2 * math.pi * (hour.hour - 2) / HOURS) for hour in hours]
    with engine.begin() as connection:
        ids = list(connection.scalars(_STORED))
        drawn = chance.choices(hours, weights, k=len(ids))
        moments = sorted(min(hour + chance.random() * HOUR, now) for hour in drawn)
        moved = [{"id": number, "at": moment.isoformat()} for number, moment in zip(ids, moments, strict=True)]
        connection.execute(_PROCESSED, {"moved": json.dumps(moved)})
        connection.execute(_MOVE, {"moved": json.dumps(moved)})
        for hour in hours:
            count_hour(connection, hour)


def _run(work: Coroutine[Any, Any, object]) -> None:
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, work).result()


if __name__ == "__main__":
    main()
