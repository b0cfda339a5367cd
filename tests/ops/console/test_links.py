"""Every link of every page of the console, and every form that only asks, leads to a page without complaint."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pytest

from receiver.ops.issues import watch
from tests.support.console_pages import EVENT, WRONG, ids, links, stored
from tests.support.factories import card_holder, snapshot
from tests.support.replay_steps import EVERYTHING, replay, start
from tests.support.service_states import add_run

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations
    from tests.support.visitor import Visitor

MAX_PAGES = 1000
LONG_EVENT = "card." + "x" * 600


class LinkedPage(HTMLParser):
    """What a page leads to, and the fields that it marks as wrong."""

    def __init__(self, path: str, html: str) -> None:
        super().__init__()
        self.path = path
        self.leads_to: set[str] = set()
        self.wrong: list[str] = []
        self._form: dict[str, str] | None = None
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        each = {name: value or "" for name, value in attrs}
        if "is-invalid" in each.get("class", "").split():
            self.wrong.append(each.get("name", tag))
        match tag:
            case "a" | "link":
                self.leads_to.add(each["href"].partition("#")[0] or self.path)
            case "form" if each.get("method") == "get":
                self._form = {}
            case "select":
                self._select = each["name"]
            case "option" if self._form is not None and ("selected" in each or self._select not in self._form):
                self._form[self._select] = each.get("value", "")
            case "input" if self._form is not None and "name" in each:
                self._form[each["name"]] = each.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._form is not None:
            self.leads_to.add(f"{urlsplit(self.path).path}?{urlencode(self._form)}")
            self._form = None


@dataclass
class Walk:
    """A walk along all links that begin at the overview."""

    visitor: Visitor
    seen: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def walk(self) -> None:
        waiting = ["/ops/"]
        while waiting and len(self.seen) < MAX_PAGES:
            path = waiting.pop()
            if path in self.seen:
                continue
            self.seen.add(path)
            answer = self.visitor.get(path)
            if answer.status_code != 200:
                self.complaints.append(f"{path}: {answer.status_code}")
            elif answer.mimetype == "text/html":
                page = LinkedPage(path, answer.text)
                self.complaints += [f"{path}: {name} is marked as wrong" for name in page.wrong]
                waiting += page.leads_to - self.seen


@pytest.fixture
def full(organizations: Organizations, settings: Settings, short_pages: None, monkeypatch: pytest.MonkeyPatch) -> Acme:
    """A service that has something of everything, in lists that take several pages."""
    del short_pages
    monkeypatch.setattr("receiver.ops.console.overview.MAX_GROUPS", 1)
    monkeypatch.setattr("receiver.ops.console.overview.MAX_ORGANIZATIONS", 1)
    acme, other = organizations.adopt("acme"), organizations.adopt("globex & sons")
    for _ in range(2):
        acme.deliver_ok(EVENT, snapshot("cleared", transaction="t-1"))
        acme.deliver_ok("card_holder.created", card_holder("employee-1"))
    acme.deliver_ok(EVENT, WRONG)
    acme.deliver_ok(EVENT, WRONG.replace(b"t-1", b"t-2"))
    acme.deliver_ok(EVENT, b"no json")
    acme.deliver_ok("event.of.tomorrow", snapshot("cleared"))
    acme.deliver_ok(LONG_EVENT, snapshot("cleared"))
    other.apply(EVENT, snapshot("cleared"))
    assert set(acme.statuses()) == {"processed", "duplicate", "dead", "ignored", "quarantined"}
    for organization in ("acme", "acme", "globex & sons"):
        add_run(acme.engine, organization)
    for _ in range(3):
        replay(acme, tuple(stored(acme)[:2]))
    start(acme, EVERYTHING)
    watch.check(acme.engine, settings, ())
    return acme


@pytest.mark.parametrize("name", ["olga", "vera"])
def test_every_link_of_every_page_leads_to_a_valid_page(full: Acme, stranger: Visitor, name: str) -> None:
    stranger.sign_in(name)
    walk = Walk(stranger)
    walk.walk()
    assert walk.complaints == []
    assert len(walk.seen) < MAX_PAGES
    followed = {urlsplit(path).path for path in walk.seen}
    assert {f"/ops/deliveries/{delivery}" for delivery in stored(full)} <= followed
    assert {
        "/ops/",
        "/ops/issues/",
        "/ops/deliveries/",
        "/ops/purchases/",
        "/ops/purchases/purchase",
        "/ops/replays/",
        "/ops/webhooks/",
        "/ops/reconcile/",
    } <= followed
    assert [path for path in followed if re.fullmatch(r"/ops/issues/[0-9]+", path)]
    assert ("/ops/replays/new" in followed) is (name == "olga")
    assert ("/ops/audit/" in followed) is (name == "olga")
    assert "/ops/deliveries/?status=unresolved" in walk.seen


def test_a_list_with_a_wrong_filter_offers_no_replay(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, WRONG)
    page = operator.get("/ops/deliveries/?status=dead&since=nonsense").text
    assert ids(page) == []
    assert not [link for link in links(page) if link.startswith("/ops/replays/new")]
