"""Each form that is sent, each sign-in and each look at personal data leaves a record; operators can read them."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.ops.console.application import FOR_EVERYBODY
from receiver.ops.console.recorded import ACTIONS
from receiver.ops.issues import watch
from tests.support.console_pages import address_of, links, rules, stored
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from receiver.settings import Settings
    from tests.conftest import Acme
    from tests.support.visitor import Visitor

WITHOUT_SIGN_INS = "action NOT IN ('sign-in')"


def recorded(acme: Acme, which: str = WITHOUT_SIGN_INS) -> list[tuple[Any, ...]]:
    columns = "actor, address, action, object, reason, outcome, error"
    query = f"SELECT {columns} FROM receiver.audit WHERE via = 'console' AND {which} ORDER BY id"  # noqa: S608
    return [tuple(row.values()) for row in acme.rows(query)]


@contextmanager
def locked(acme: Acme, table: str) -> Iterator[None]:
    """Keep others from a table, as a long transaction would."""
    with acme.engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.fixture
def issue(acme: Acme, settings: Settings) -> int:
    """An open issue."""
    acme.apply("card_holder.created", b"{}")
    watch.check(acme.engine, settings, ())
    number: int = acme.value("SELECT id FROM receiver.issues WHERE kind LIKE '%dead%' OR text LIKE '%dead%' LIMIT 1")
    return number


def test_every_form_has_the_name_of_its_action(console: Flask) -> None:
    assert {rule.endpoint for rule in rules(console, "POST")} == set(ACTIONS)


def test_every_form_of_a_viewer_is_refused_and_recorded(console: Flask, acme: Acme, viewer: Visitor) -> None:
    refused = []
    for rule in rules(console, "POST"):
        if rule.endpoint in FOR_EVERYBODY:
            continue
        assert viewer.post(address_of(console, rule), form="/ops/").status_code == 403
        action, option = ACTIONS[rule.endpoint]
        about = (f"--{option} 1" if option else "1") if rule.arguments else None
        refused.append(("vera", "192.0.2.7", action, about, None, "refused", None))
    assert recorded(acme) == refused


def test_forms_are_recorded_with_reason_and_outcome(acme: Acme, operator: Visitor, issue: int) -> None:
    (delivery,) = stored(acme)
    operator.post(f"/ops/deliveries/{delivery}/replay", form="/ops/", reason="format corrected")
    replay = acme.value("SELECT id FROM receiver.replays")
    operator.post(f"/ops/replays/{replay}/cancel", form="/ops/")
    operator.post("/ops/replays/new?status=dead&card_holder=employee-17", form="/ops/", reason="again", limit="7")
    operator.post(f"/ops/issues/{issue}/resolve", form="/ops/", note="known")
    operator.post(f"/ops/issues/{issue}/resolve", form="/ops/", note="twice")
    operator.post(f"/ops/issues/{issue}/acknowledge", form="/ops/")
    operator.post("/ops/sign-out", form="/ops/")
    who = ("olga", "192.0.2.7")
    assert recorded(acme) == [
        (*who, "replay", str(delivery), "format corrected", "done", None),
        (*who, "replay", f"--cancel {replay}", None, "done", None),
        (*who, "replay", "--status dead --card-holder --limit 7", "again", "done", None),
        (*who, "issues resolve", str(issue), "known", "done", None),
        (*who, "issues resolve", str(issue), "twice", "refused", None),
        (*who, "issues acknowledge", str(issue), None, "refused", None),
        (*who, "sign-out", None, None, "done", None),
    ]


def test_a_form_that_fails_is_recorded_with_its_error(acme: Acme, operator: Visitor, issue: int) -> None:
    token = operator.token("/ops/")
    with locked(acme, "receiver.issues"):
        answer = operator.client.post(
            f"/ops/issues/{issue}/resolve", data={"csrf_token": token, "note": "known"}, headers=operator._headers()
        )
    assert answer.status_code == 503
    assert recorded(acme) == [
        ("olga", "192.0.2.7", "issues resolve", str(issue), "known", "failed", "OperationalError")
    ]


def test_sign_ins_are_recorded_and_no_password(acme: Acme, stranger: Visitor) -> None:
    stranger.sign_in("olga", "wrong-password")
    stranger.sign_in("olga")
    stranger.post("/ops/sign-in", name="a-password-of-olga", password="x")
    assert recorded(acme, "true") == [
        ("olga", "192.0.2.7", "sign-in", None, None, "refused", None),
        ("olga", "192.0.2.7", "sign-in", None, None, "done", None),
        ("(unknown)", "192.0.2.7", "sign-in", None, None, "refused", None),
    ]
    assert "password" not in str(acme.rows("SELECT * FROM receiver.audit"))


def test_a_stranger_cannot_fill_the_table(console: Flask, acme: Acme, stranger: Visitor) -> None:
    for rule in rules(console, "POST"):
        stranger.client.post(address_of(console, rule))
        stranger.post(address_of(console, rule))
    answers = [stranger.sign_in("olga", "wrong-password").status_code for _ in range(20)]
    assert 429 in answers
    assert 1 <= len(recorded(acme, "true")) <= 10


def test_a_search_for_a_card_holder_is_recorded(acme: Acme, operator: Visitor) -> None:
    acme.apply("card_holder.created", card_holder("employee-17"))
    operator.get("/ops/deliveries/")
    operator.get("/ops/deliveries/?card_holder=employee-17")
    assert recorded(acme) == [("olga", "192.0.2.7", "deliveries list", "--card-holder", None, "done", None)]


def test_a_payload_is_shown_only_with_its_record(acme: Acme, operator: Visitor) -> None:
    acme.apply("card_holder.created", card_holder("employee-17"))
    (delivery,) = stored(acme)
    with locked(acme, "receiver.audit"):
        answer = operator.get(f"/ops/deliveries/{delivery}")
    assert (answer.status_code, "employee-17" in answer.text) == (503, False)
    assert "employee-17" in operator.get(f"/ops/deliveries/{delivery}").text


def test_an_act_without_its_record_is_said(acme: Acme, operator: Visitor, issue: int) -> None:
    token = operator.token("/ops/")
    with locked(acme, "receiver.audit"):
        answer = operator.client.post(f"/ops/issues/{issue}/resolve", data={"csrf_token": token, "note": "known"})
    assert (answer.status_code, "Not recorded" in answer.text) == (503, True)
    assert answer.headers["Content-Security-Policy"]
    assert acme.value("SELECT state FROM receiver.issues WHERE id = :id", id=issue) == "resolved"


def rows_of(page: str) -> list[str]:
    return re.findall(r'data-label="Object">([^<]*)</td>', page)


@pytest.mark.usefixtures("short_pages")
def test_operators_see_records_newest_first(acme: Acme, operator: Visitor) -> None:
    for number in range(1, 4):
        acme.execute(
            "INSERT INTO receiver.audit (actor, via, action, object, outcome) "
            "VALUES ('deploy@ops-1', 'command line', 'replay', :number, 'failed')",
            number=str(number),
        )
    page = operator.get("/ops/audit/").text
    assert rows_of(page) == ["3", "2"]
    assert "deploy@ops-1" in page
    (older,) = re.findall(r'rel="next" href="([^"]+)"', page)
    assert rows_of(operator.get(older.replace("&amp;", "&")).text) == ["1", "\N{EN DASH}"]
    assert "/ops/audit/?action=replay" in links(page)
    assert rows_of(operator.get("/ops/audit/?actor=olga").text) == ["\N{EN DASH}"]
    assert "No records match." in operator.get("/ops/audit/?action=nothing").text


def test_a_viewer_is_sent_to_an_operator(viewer: Visitor) -> None:
    answer = viewer.get("/ops/audit/")
    assert (answer.status_code, "ask one of them" in answer.text) == (403, True)
    assert "/ops/audit/" not in viewer.get("/ops/").text
