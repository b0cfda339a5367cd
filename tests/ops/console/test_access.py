"""Every page and every form of the console, whichever there are: who gets in, and what protects them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.app import create_app
from receiver.ops.console.application import FOR_EVERYBODY, OPEN
from receiver.sandbox.embedded import free_port
from receiver.settings import load_settings
from tests.support.console_pages import address_of, rules
from tests.support.factories import body, snapshot
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from flask import Flask

    from tests.conftest import Acme


def test_every_page_needs_a_sign_in(console: Flask, stranger: Visitor) -> None:
    closed = [rule for rule in rules(console, "GET") if rule.endpoint not in OPEN]
    assert len(closed) >= 3
    for rule in closed:
        answer = stranger.get(address_of(console, rule))
        assert (answer.status_code, answer.location.partition("?")[0]) == (302, "/ops/sign-in"), rule


def test_the_root_leads_to_the_console(stranger: Visitor) -> None:
    answer = stranger.get("/")
    assert (answer.status_code, answer.location) == (302, "/ops/")


def test_every_form_needs_a_token_of_its_session(
    console: Flask, operator: Visitor, viewer: Visitor, stranger: Visitor
) -> None:
    forms = rules(console, "POST")
    assert len(forms) >= 2
    for rule in forms:
        for visitor in (operator, viewer, stranger):
            for fields in ({}, {"csrf_token": "made-up"}):
                answer = visitor.client.post(address_of(console, rule), data=fields)
                assert (answer.status_code, "Nothing was done." in answer.text) == (400, True), rule
    assert operator.get("/ops/").status_code == 200  # no user was signed out by it


def test_a_token_of_another_session_is_none(operator: Visitor, viewer: Visitor) -> None:
    answer = viewer.client.post("/ops/sign-out", data={"csrf_token": operator.token("/ops/")})
    assert answer.status_code == 400


def test_every_form_but_signing_in_needs_a_sign_in(console: Flask, stranger: Visitor) -> None:
    for rule in rules(console, "POST"):
        if rule.endpoint in OPEN:
            continue
        answer = stranger.post(address_of(console, rule))
        assert (answer.status_code, answer.location) == (302, "/ops/sign-in"), rule


def test_a_viewer_may_send_no_form_but_signing_in_and_out(console: Flask, viewer: Visitor) -> None:
    for rule in rules(console, "POST"):
        if rule.endpoint in FOR_EVERYBODY:
            continue
        answer = viewer.post(address_of(console, rule), form="/ops/")
        assert (answer.status_code, "role operator" in answer.text) == (403, True), rule


def test_only_signing_in_and_out_needs_no_role() -> None:
    assert {"sign_in.sign_in", "sign_in.sign_out"} == FOR_EVERYBODY
    assert {"static", "bootstrap.static", "sign_in.sign_in", "oidc.start", "oidc.finish"} == OPEN


def test_every_answer_bears_the_headers_that_protect_it(console: Flask, operator: Visitor, stranger: Visitor) -> None:
    pages = [address_of(console, rule) for rule in rules(console, "GET") if rule.endpoint not in OPEN]
    for visitor in (operator, stranger):
        for path in [*pages, "/ops/sign-in", "/ops/nowhere", "/ops/static/console.css"]:
            headers = visitor.get(path).headers
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert "script-src 'self'; " in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            if not path.endswith(".css"):
                assert headers["Cache-Control"] == "no-store", path


def test_no_page_has_a_script_or_a_style_of_its_own(console: Flask, operator: Visitor) -> None:
    for rule in rules(console, "GET"):
        if rule.endpoint in {"static", "bootstrap.static"}:
            continue
        shown = operator.get(address_of(console, rule)).text.lower()
        for inline in ("<style", " style=", " onclick=", "javascript:"):
            assert inline not in shown, (rule, inline)
        assert re.findall("<script.*?</script>", shown) == ['<script src="/ops/static/console.js" defer></script>'], (
            rule
        )
        assert '<html lang="en">' in shown


def test_errors_are_pages_here_and_json_elsewhere(operator: Visitor) -> None:
    missing = operator.get("/ops/nowhere")
    assert (missing.status_code, missing.mimetype) == (404, "text/html")
    assert "Page not found" in missing.text
    assert operator.client.put("/ops/").status_code == 405
    elsewhere = operator.get("/nowhere")
    assert (elsewhere.status_code, elsewhere.get_json()) == (404, {"error": "not found"})


def test_without_the_database_the_console_says_so(operator: Visitor, console_environment: dict[str, str]) -> None:
    nowhere = f"postgresql://receiver@127.0.0.1:{free_port()}/receiver"
    app = create_app(load_settings({**console_environment, "DATABASE_URL": nowhere}))
    cookie = operator.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    visitor = Visitor(app.test_client())
    visitor.client.set_cookie("receiver_console", cookie.value, path="/ops")
    for answer in (visitor.get("/ops/"), visitor.sign_in("olga")):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "Database unreachable" in answer.text
    app.extensions["receiver.close"]()


def test_a_form_larger_than_any_of_the_console_is_refused(operator: Visitor) -> None:
    assert operator.post("/ops/sign-in", name="x" * 100_000, password="x").status_code == 413


@pytest.mark.parametrize(
    "query", ["before=x", "before=-1", "before=9223372036854775808", "before=99999999999999999999", "_external=1"]
)
def test_any_address_is_answered_with_a_page(operator: Visitor, query: str) -> None:
    assert operator.get(f"/ops/reconcile/?{query}").status_code == 200


def test_a_delivery_meets_nothing_of_the_console(console_app: Flask, console: Flask, acme: Acme) -> None:
    content = body(snapshot("cleared"))
    headers = acme.registration.headers("card.transaction.cleared", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "wsgi_app", None)  # any call of it would fail
        answer = console_app.test_client().post(acme.path, data=content, headers=headers)
    assert (answer.status_code, answer.get_json()) == (200, {})
    assert not {"Set-Cookie", "Vary", "Content-Security-Policy"} & set(answer.headers)
    assert not console_app.before_request_funcs
    assert console_app.secret_key is None


def test_the_console_has_two_connections_and_no_more(console: Flask) -> None:
    engine = console.extensions["console"].engine
    assert (engine.pool.size(), engine.pool._max_overflow) == (2, 0)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "5s"
        assert connection.execute(text("SHOW application_name")).scalar_one() == "receiver console"
