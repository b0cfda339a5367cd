from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from werkzeug.security import generate_password_hash

from receiver.app import create_app
from receiver.ops.console.limits import (
    FORGOTTEN_AFTER,
    FREE_FAILURES,
    LONGEST_PAUSE,
    Failures,
    network_of,
    one_more,
    pause_after,
    wait_of,
)
from receiver.ops.console.sign_in import safe_target
from receiver.settings import load_settings
from tests.ops.console.conftest import CHEAP
from tests.support.visitor import PASSWORDS, Visitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from sqlalchemy import Engine

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def rows(engine: Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_sign_in_leads_to_the_overview_and_is_recorded(stranger: Visitor, engine: Engine) -> None:
    stranger.address = "203.0.113.9"
    answer = stranger.sign_in("olga")
    assert (answer.status_code, answer.location) == (302, "/ops/")
    shown = stranger.get("/ops/")
    assert (shown.status_code, "olga, operator" in shown.text) == (200, True)
    assert rows(engine, "SELECT user_name, address, now() - signed_in_at < '1 min' FROM receiver.console_sessions") == [
        ("olga", "203.0.113.9", True)
    ]


@pytest.mark.parametrize(("name", "password"), [("olga", "wrong"), ("olga", PASSWORDS["vera"]), ("nobody", "wrong")])
def test_a_wrong_name_or_password_is_refused_in_the_same_words(stranger: Visitor, name: str, password: str) -> None:
    answer = stranger.sign_in(name, password)
    assert (answer.status_code, "Name or password is wrong." in answer.text) == (401, True)
    assert stranger.get("/ops/").status_code == 302


def test_sign_in_redirects_to_the_requested_page(stranger: Visitor) -> None:
    asked = stranger.get("/ops/reconcile/?organization=acme")
    assert asked.location == "/ops/sign-in?next=/reconcile/?organization%3Dacme"
    answer = stranger.sign_in("vera", target=asked.location)
    assert answer.location == "/ops/reconcile/?organization=acme"
    assert stranger.get(answer.location).status_code == 200


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "///evil.example",
        "evil.example",
        "/webhooks/\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_signing_in_leads_to_no_other_site(stranger: Visitor, wanted: str) -> None:
    answer = stranger.client.get("/ops/sign-in", query_string={"next": wanted})
    assert answer.status_code == 200
    answer = stranger.sign_in("vera", target=answer.request.full_path)
    assert answer.location == "/ops/"


@given(st.text())
def test_sign_in_redirects_only_to_paths_of_the_console(wanted: str) -> None:
    target = safe_target(wanted, "/ops")
    assert target is None or (target.startswith("/ops/") and not target.startswith("/ops//") and "\\" not in target)


def test_cookie_is_limited_to_the_console_and_http_only(stranger: Visitor) -> None:
    cookie = stranger.sign_in("vera").headers["Set-Cookie"]
    assert "; HttpOnly" in cookie
    assert "; Path=/ops" in cookie
    assert "; SameSite=Lax" in cookie
    assert "; Secure" not in cookie  # this receiver's PUBLIC_URL is loopback over http


def test_the_cookie_travels_over_https_alone(console_environment: dict[str, str], engine: Engine) -> None:
    del engine  # asked for so that it is empty
    app = create_app(load_settings({**console_environment, "PUBLIC_URL": "https://hooks.example.com"}))
    assert "; Secure" in Visitor(app.test_client()).get("/ops/sign-in").headers["Set-Cookie"]
    app.extensions["receiver.close"]()


def test_signing_in_begins_a_new_cookie(stranger: Visitor) -> None:
    before = stranger.get("/ops/sign-in").headers["Set-Cookie"]
    after = stranger.sign_in("vera").headers["Set-Cookie"]
    assert before.split(";")[0] != after.split(";")[0]


def test_signing_out_ends_the_session_wherever_its_cookie_went(operator: Visitor, new_visitor: Any) -> None:
    other_browser = new_visitor()
    cookie = operator.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    other_browser.client.set_cookie("receiver_console", cookie.value, path="/ops")
    assert other_browser.get("/ops/").status_code == 200
    assert operator.post("/ops/sign-out", form="/ops/").location == "/ops/sign-in"
    assert "You are signed out." in operator.get("/ops/sign-in").text
    assert operator.get("/ops/").status_code == 302
    assert other_browser.get("/ops/").status_code == 302


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        ("seen_at = now() - interval '59 min'", False),
        ("seen_at = now() - interval '61 min'", True),
        ("signed_in_at = now() - interval '11 h'", False),
        ("signed_in_at = now() - interval '13 h'", True),
    ],
)
def test_a_session_ends_when_it_is_idle_or_old(operator: Visitor, engine: Engine, change: str, *, ends: bool) -> None:
    execute(engine, f"UPDATE receiver.console_sessions SET {change}")  # noqa: S608 - the example
    assert (operator.get("/ops/").status_code == 302) is ends


def test_pages_that_refresh_themselves_keep_no_session(operator: Visitor, engine: Engine) -> None:
    execute(engine, "UPDATE receiver.console_sessions SET seen_at = now() - interval '50 min'")
    assert operator.client.get("/ops/", headers={"X-Refresh": "1"}).status_code == 200
    assert rows(engine, "SELECT seen_at > now() - interval '1 min' FROM receiver.console_sessions") == [(False,)]
    assert operator.get("/ops/").status_code == 200
    assert rows(engine, "SELECT seen_at > now() - interval '1 min' FROM receiver.console_sessions") == [(True,)]


def test_looking_at_pages_keeps_a_session_alive(operator: Visitor, engine: Engine) -> None:
    execute(engine, "UPDATE receiver.console_sessions SET seen_at = now() - interval '50 min'")
    operator.get("/ops/")
    assert rows(engine, "SELECT seen_at > now() - interval '1 min' FROM receiver.console_sessions") == [(True,)]


@pytest.mark.parametrize(
    ("users", "stays"),
    [
        ("olga:operator:{same}", True),
        ("olga:viewer:{same}", False),
        ("olga:operator:{other}", False),
        ("anna:operator:{same}", False),
    ],
)
def test_a_session_ends_when_its_user_goes_or_changes(
    operator: Visitor, console_environment: dict[str, str], users: str, *, stays: bool
) -> None:
    same = load_settings(console_environment).ops_users[0].password_hash
    changed_users = users.format(same=same, other=generate_password_hash(PASSWORDS["olga"], CHEAP))
    after_restart = create_app(load_settings({**console_environment, "OPS_USERS": changed_users}))
    cookie = operator.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    visitor = Visitor(after_restart.test_client())
    visitor.client.set_cookie("receiver_console", cookie.value, path="/ops")
    assert (visitor.get("/ops/").status_code == 200) is stays
    after_restart.extensions["receiver.close"]()


@pytest.mark.parametrize("path", ["/", "/ops", "/ops/"])
def test_without_users_it_says_how_to_switch_the_console_on(app: Flask, path: str) -> None:
    answer = app.test_client().get(path)
    assert (answer.status_code, answer.mimetype) == (404, "text/plain")
    assert "set SECRET_KEY and OPS_USERS" in answer.text


def test_without_users_there_is_no_console(app: Flask) -> None:
    for path in ("/ops/sign-in", "/ops/static/console.css"):
        answer = app.test_client().get(path)
        assert (answer.status_code, answer.get_json()) == (404, {"error": "not found"})


def test_pauses_double_after_some_failures_up_to_a_limit() -> None:
    pauses = [pause_after(number).total_seconds() for number in range(30)]
    assert pauses[:FREE_FAILURES] == [0] * FREE_FAILURES
    assert pauses[FREE_FAILURES : FREE_FAILURES + 5] == [1, 2, 4, 8, 16]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE.total_seconds()


@given(st.integers(0, 10_000))
def test_after_the_longest_pause_another_try_is_allowed(failures: int) -> None:
    known = one_more(Failures(failures, NOW, NOW), NOW)
    assert known.failures == failures + 1
    assert wait_of([known, None], NOW + LONGEST_PAUSE) <= timedelta()


def test_failures_are_forgotten_after_a_day() -> None:
    assert one_more(Failures(9, NOW - FORGOTTEN_AFTER, NOW), NOW).failures == 1


def test_addresses_of_one_network_count_together() -> None:
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("unknown") == "unknown"


def fail(visitor: Visitor, times: int, *, name: str = "olga") -> list[int]:
    return [visitor.sign_in(name, "wrong").status_code for _ in range(times)]


@pytest.mark.parametrize("name", ["olga", "nobody"])
def test_right_password_waits_too_and_the_page_says_how_long(stranger: Visitor, engine: Engine, name: str) -> None:
    assert fail(stranger, FREE_FAILURES + 3, name=name)[:FREE_FAILURES] == [401] * FREE_FAILURES
    execute(engine, "UPDATE receiver.sign_in_failures SET next_attempt_at = now() + interval '90 s'")
    answer = stranger.sign_in("olga")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) in range(80, 92)
    assert f"try again in {answer.headers['Retry-After']} seconds" in answer.text
    execute(engine, "UPDATE receiver.sign_in_failures SET next_attempt_at = now()")
    assert stranger.sign_in("olga").status_code == 302


def test_a_name_is_slowed_down_from_wherever_it_is_tried(new_visitor: Callable[[], Visitor], engine: Engine) -> None:
    for number in range(FREE_FAILURES):
        visitor = new_visitor()
        visitor.address = f"198.51.100.{number}"
        assert fail(visitor, 1) == [401]
    execute(
        engine,
        "UPDATE receiver.sign_in_failures SET next_attempt_at = next_attempt_at + interval '1 min' WHERE failures >= 5",
    )
    visitor = new_visitor()
    visitor.address = "198.51.100.200"
    assert visitor.sign_in("olga").status_code == 429
    assert visitor.sign_in("vera").status_code == 302


def test_strangers_cannot_lock_out_users_of_known_networks(
    operator: Visitor, new_visitor: Callable[[], Visitor], engine: Engine
) -> None:
    for number in range(FREE_FAILURES + 1):
        visitor = new_visitor()
        visitor.address = f"198.51.100.{number}"
        visitor.sign_in("olga", "wrong")
    hold = "UPDATE receiver.sign_in_failures SET next_attempt_at = now() + interval '1 min' WHERE failures >= 5"
    execute(engine, hold)
    assert operator.sign_in("olga").status_code == 302


def test_many_tries_at_once_are_no_way_around(new_visitor: Callable[[], Visitor], console_app: Flask) -> None:
    visitors = [new_visitor() for _ in range(4 * FREE_FAILURES)]
    tokens = [visitor.token() for visitor in visitors]
    checked: list[str] = []
    passwords = console_app.extensions["receiver.console"].extensions["console"].passwords

    def try_it(pair: tuple[Visitor, str]) -> int:
        visitor, token = pair
        form = {"csrf_token": token, "name": "olga", "password": "wrong"}
        return visitor.client.post("/ops/sign-in", data=form, headers={"X-Forwarded-For": "192.0.2.1"}).status_code

    check = passwords.check

    def count(_self: object, name: str, password: str) -> object:
        checked.append(name)
        return check(name, password)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as together:
        patch.setattr(type(passwords), "check", count)
        answers = list(together.map(try_it, zip(visitors, tokens, strict=True)))
    assert set(answers) == {401, 429}
    assert len(checked) == answers.count(401) <= FREE_FAILURES + 2  # one more for each second that it took


def test_a_success_takes_its_own_count_back_and_no_other(stranger: Visitor, engine: Engine) -> None:
    fail(stranger, 2)
    stranger.sign_in("olga")
    assert rows(engine, "SELECT failures FROM receiver.sign_in_failures") == [(2,)]


def test_no_more_is_remembered_than_there_is_room_for(
    stranger: Visitor, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.ops.console.limits.MAX_SUBJECTS", 3)
    for name in ("anna", "bert", "carl", "dora"):
        stranger.sign_in(name, "wrong")
    execute(engine, "UPDATE receiver.sign_in_failures SET failed_at = now() - interval '25 h'")
    stranger.sign_in("emil", "wrong")
    assert rows(engine, "SELECT count(*) FROM receiver.sign_in_failures") == [(2,)]
