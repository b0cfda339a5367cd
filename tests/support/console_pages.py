"""What the console's pages show and link to, and what tests put into them."""

from __future__ import annotations

import re
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Any

from tests.support.factories import snapshot

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule

    from tests.conftest import Acme

EVENT = "card.transaction.cleared"
WRONG = b'{"id": "t-1", "state": "cleared", "accounting_amount": "much"}'


def links(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'href="([^"]+)"', page)]


def ids(page: str) -> list[int]:
    """Return the deliveries that a list shows, in its order."""
    return [int(number) for number in re.findall(r'<th scope="row"><a href="/ops/deliveries/(\d+)"', page)]


def stored(acme: Acme) -> list[int]:
    return [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id DESC")]


def of_ticket(**changes: object) -> dict[str, Any]:
    fields: dict[str, Any] = {"purchase_date": "2026-10-12", "original_amount": Decimal("245.50"), **changes}
    return {**snapshot("cleared"), **fields}


def address(transaction: str, organization: str = "acme", **more: str) -> str:
    rest = "".join(f"&{name}={value}" for name, value in more.items())
    return f"/ops/purchases/purchase?organization={organization}&id={transaction}{rest}"


def address_of(console: Flask, rule: Rule) -> str:
    """Return an address that *rule* answers."""
    with console.test_request_context(base_url="http://localhost/ops/"):
        return console.url_map.bind("localhost", script_name="/ops").build(
            rule.endpoint, dict.fromkeys(rule.arguments, 1), method=next(iter(rule.methods or {"GET"} - {"OPTIONS"}))
        )


def rules(console: Flask, method: str) -> list[Rule]:
    return [rule for rule in console.url_map.iter_rules() if method in (rule.methods or set())]
