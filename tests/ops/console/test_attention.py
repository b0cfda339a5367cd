"""The console and ``receiver status`` name the same things that need attention."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.app import create_app
from receiver.cli import main
from receiver.settings import load_settings
from tests.support.applications import unreachable_redis
from tests.support.console_pages import EVENT, WRONG
from tests.support.factories import enrichment
from tests.support.pools import ACCESS
from tests.support.service_states import add_run
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Acme, Organizations

ATTENTION = re.compile(r'<h2 id="attention">.*?</section>', re.DOTALL)
PARTS = re.compile(r'<h2 id="parts">.*?</section>', re.DOTALL)


@pytest.fixture
def overview(console_environment: dict[str, str]) -> Iterator[Callable[[dict[str, str]], str]]:
    """Shows what needs attention by the overview, and which processes run, in an environment with changes."""
    apps = []

    def show(changes: dict[str, str]) -> str:
        app = create_app(load_settings({**console_environment, **changes}))
        apps.append(app)
        visitor = Visitor(app.test_client())
        visitor.sign_in("vera")
        page = visitor.get("/ops/").text
        attention, parts = ATTENTION.search(page), PARTS.search(page)
        assert attention
        assert parts
        return unescape(attention[0] + parts[0])

    yield show
    for app in apps:
        app.extensions["receiver.close"]()


@pytest.fixture
def bad(organizations: Organizations) -> Acme:
    """A service with something of everything to look at."""
    acme = organizations.adopt("acme")
    organizations.adopt("asleep").execute(
        "UPDATE receiver.webhooks SET active = false WHERE organization_reference_id = 'asleep'"
    )
    organizations.adopt("unchecked")
    acme.execute("UPDATE receiver.webhooks SET created_at = now() - interval '1 day'")
    add_run(acme.engine, "acme", unconfirmed=1)
    acme.apply(EVENT, WRONG)
    for name in ("1.pdf", "2.pdf", "3.pdf"):
        acme.apply("receipt.fetched", enrichment("receipt.fetched", url=f"https://files.example.com/{name}"))
    statuses = ("expired", "refused", "waiting")
    for number, status in enumerate(statuses):
        acme.execute(
            "UPDATE receiver.receipt_downloads SET status = :status, error = 'gone', attempts = 3, completed_at ="
            " CASE WHEN :status <> 'waiting' THEN now() END WHERE id ="
            " (SELECT id FROM receiver.receipt_downloads ORDER BY id OFFSET :number LIMIT 1)",
            status=status,
            number=number,
        )
    return acme


@pytest.mark.parametrize("access", [True, False], ids=["with access", "without access"])
@pytest.mark.parametrize("with_redis", [True, False], ids=["with Redis", "without Redis"])
def test_the_console_lists_what_the_command_line_lists(
    bad: Acme,
    overview: Callable[[dict[str, str]], str],
    console_environment: dict[str, str],
    access: bool,  # noqa: FBT001 - a parameter of pytest
    with_redis: bool,  # noqa: FBT001 - likewise
) -> None:
    del bad
    changes = {**(ACCESS if access else {}), **({} if with_redis else {"REDIS_URL": unreachable_redis()})}
    shown = re.findall(r"<li>(.*?)</li>", overview(changes))
    status = CliRunner(env={**console_environment, **changes}).invoke(main, ["status", "--json"])
    # the console has buttons instead of commands
    assert shown == [line.partition("; receiver ")[0] for line in json.loads(status.stdout)["needs_attention"]]
    words = [
        "1 dead delivery",
        "not active",
        "not in OpenCard's log",
        "1 file lost",
        "1 file refused",
        "not downloaded",
    ]
    words += [] if with_redis else ["Redis (REDIS_URL) cannot be reached"]
    words += ["never checked"] if access else ["webhooks are not reconciled: OPENCARD_"]
    for each in words:
        assert any(each in line for line in shown), each


def test_the_console_shows_workers_and_receipts(bad: Acme, overview: Callable[[dict[str, str]], str]) -> None:
    del bad
    assert "<dd>0 for deliveries</dd>" in overview({})
    assert "<dd>1 waiting for their files, 1 of them failing</dd>" in overview({})
    assert "<dd>not known: Redis cannot be reached or refuses writes</dd>" in overview(
        {"REDIS_URL": unreachable_redis()}
    )
