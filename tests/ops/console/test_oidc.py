"""Signing in to the console by OpenID Connect, with a provider that runs here."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from receiver.app import create_app
from receiver.encryption import Encryption
from receiver.ops.console.limits import FREE_FAILURES
from receiver.ops.keys import rotate_keys
from receiver.ops.openid.claims import name_of, role_of
from receiver.ops.openid.provider import OpenIDProvider
from receiver.settings import load_settings
from receiver.variables import Role
from tests.support.factories import snapshot
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, new_key
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from redis import Redis
    from sqlalchemy import Engine
    from werkzeug.test import TestResponse

    from tests.ops.console.conftest import ServedOpenIdProvider


@pytest.fixture(scope="module")
def running_app(openid_environment: dict[str, str], migrated_engine: Engine) -> Iterator[Flask]:
    del migrated_engine  # asked for so that there is something to show
    app = create_app(load_settings(openid_environment))
    yield app
    app.extensions["receiver.close"]()


@pytest.fixture
def openid_app(running_app: Flask, provider: OpenIdProvider, engine: Engine, redis: Redis) -> Flask:
    """The application, which knows nothing of the provider yet."""
    del provider, engine, redis  # asked for so that all are as new
    known = running_app.extensions["receiver.console"].extensions["console"].provider
    known._metadata = known._keys = None
    return running_app


@dataclass
class Browser:
    """A browser that follows redirects to the provider and back."""

    visitor: Visitor
    sent: dict[str, str] = field(default_factory=dict)
    """What the provider was sent."""

    def to_provider(self, path: str = "/ops/sign-in/oidc") -> str:
        """Go to the provider, and return the path with which it sends the browser back."""
        address = self.visitor.get(path).location
        self.sent = dict(parse_qsl(urlsplit(address).query))
        back = urlsplit(httpx.get(address).headers["Location"])
        return f"{back.path}?{back.query}"

    def sign_in(self, path: str = "/ops/sign-in/oidc") -> TestResponse:
        return self.visitor.get(self.to_provider(path))

    def is_refused(self) -> str:
        """Sign in, which fails, and return the page that says so."""
        answer = self.sign_in()
        assert answer.location == "/ops/sign-in"
        assert self.visitor.get("/ops/").status_code == 302
        return self.visitor.get("/ops/sign-in").text


@pytest.fixture
def browser(openid_app: Flask) -> Browser:
    return Browser(Visitor(openid_app.test_client()))


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def rows(engine: Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def let_a_minute_pass(engine: Engine) -> None:
    execute(
        engine,
        "UPDATE receiver.console_sessions SET confirm_after = confirm_after - interval '61 s', "
        "confirmed_at = confirmed_at - interval '61 s'",
    )


def test_sign_in_page_offers_both_ways(browser: Browser, running: ServedOpenIdProvider) -> None:
    shown = browser.visitor.get("/ops/sign-in?next=/reconcile/").text
    assert f"Sign in with {urlsplit(running.url).netloc}" in shown
    assert 'href="/ops/sign-in/oidc?next=/reconcile/"' in shown
    assert 'name="password"' in shown
    assert browser.visitor.sign_in("olga").location == "/ops/"
    assert "olga, operator" in browser.visitor.get("/ops/").text


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["ops-admins"], "operator"), (["accounting", "staff"], "viewer"), (["accounting", "ops-admins"], "operator")],
)
def test_a_group_gives_its_role(
    browser: Browser, provider: OpenIdProvider, engine: Engine, groups: list[str], role: str
) -> None:
    provider.groups = groups
    answer = browser.sign_in()
    assert (answer.status_code, answer.location) == (302, "/ops/")
    assert f"jane@example.com, {role}" in browser.visitor.get("/ops/").text
    assert rows(engine, "SELECT user_name, subject, role FROM receiver.console_sessions") == [
        ("jane@example.com", "user-1", role)
    ]


@pytest.mark.parametrize("groups", [[], ["staff"], "staff", None, {"ops-admins": True}, [["ops-admins"]]])
def test_no_group_with_a_role_says_whom_to_ask(
    browser: Browser, provider: OpenIdProvider, running: ServedOpenIdProvider, groups: object
) -> None:
    provider.groups = groups
    shown = browser.is_refused()
    assert "jane@example.com is signed in at" in shown
    assert f"Ask the administrators of {urlsplit(running.url).netloc} for one of these" in shown
    assert "ops-admins (operator), accounting (viewer)" in shown


def test_sign_ins_are_on_record(browser: Browser, provider: OpenIdProvider, engine: Engine) -> None:
    browser.sign_in()
    provider.groups = []
    browser.sign_in()
    provider.forged = "none"
    browser.sign_in()
    assert rows(engine, "SELECT actor, address, action, outcome FROM receiver.audit ORDER BY id") == [
        ("jane@example.com", "192.0.2.7", "sign-in", "done"),
        ("jane@example.com", "192.0.2.7", "sign-in", "refused"),
        ("(unknown)", "192.0.2.7", "sign-in", "refused"),
    ]


def test_groups_may_come_from_user_information(browser: Browser, provider: OpenIdProvider) -> None:
    provider.groups_in_id_token = False
    assert browser.sign_in().location == "/ops/"
    assert "/userinfo" in provider.asked


def test_user_information_of_another_user_is_refused(browser: Browser, provider: OpenIdProvider) -> None:
    provider.groups_in_id_token = False
    provider.user_of_userinfo = "user-2"
    assert "did not confirm the sign-in" in browser.is_refused()


def in_seconds(seconds: int) -> int:
    return int(time.time()) + seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another-client"]},
        {"azp": "another-client"},
        {"exp": in_seconds(-120)},
        {"exp": None},
        {"iat": in_seconds(86_400)},  # it is computed when tests are collected, long before this one runs
        {"nonce": "of-another-sign-in"},
        {"nonce": None},
        {"sub": None},
        {"sub": 7},
    ],
    ids=lambda changes: "-".join(f"{name}-{type(value).__name__}" for name, value in changes.items()),
)
def test_wrong_claim_of_an_id_token_is_refused(
    browser: Browser, provider: OpenIdProvider, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    assert "did not confirm the sign-in" in browser.is_refused()


@pytest.mark.parametrize("forged", ["none", "HS256", "foreign"])
def test_id_token_without_the_right_signature_is_refused(
    browser: Browser, provider: OpenIdProvider, forged: str
) -> None:
    provider.forged = forged
    assert "did not confirm the sign-in" in browser.is_refused()


@pytest.mark.parametrize("change", [("state=", "state=x"), ("iss=http", "iss=https"), ("code=", "code=x")])
def test_changed_answer_of_the_provider_is_refused(browser: Browser, change: tuple[str, str]) -> None:
    back = browser.to_provider()
    assert change[0] in back
    assert browser.visitor.get(back.replace(*change)).location == "/ops/sign-in"
    assert browser.visitor.get("/ops/").status_code == 302


def test_an_answer_is_good_in_its_own_browser_once(browser: Browser, openid_app: Flask) -> None:
    back = browser.to_provider()
    other = Visitor(openid_app.test_client())
    assert other.get(back).location == "/ops/sign-in"
    assert "began in another window, or too long ago" in other.get("/ops/sign-in").text
    assert browser.visitor.get(back).location == "/ops/"
    assert browser.visitor.get(back).location == "/ops/sign-in"


def test_an_answer_after_ten_minutes_is_refused(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    back = browser.to_provider()
    monkeypatch.setattr("receiver.ops.console.oidc.MAX_SECONDS", -1)
    assert browser.visitor.get(back).location == "/ops/sign-in"


def test_the_users_refusal_at_the_provider_is_said(browser: Browser) -> None:
    browser.to_provider()
    back = f"/ops/sign-in/oidc/callback?error=access_denied&state={browser.sent['state']}"
    assert browser.visitor.get(back).location == "/ops/sign-in"
    assert "did not confirm the sign-in" in browser.visitor.get("/ops/sign-in").text


def test_each_sign_in_has_its_own_state_nonce_and_pkce(browser: Browser) -> None:
    browser.to_provider()
    first = browser.sent
    browser.to_provider()
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != browser.sent[name]


def test_the_cookie_holds_neither_tokens_nor_verifier(
    browser: Browser, provider: OpenIdProvider, openid_app: Flask, engine: Engine, openid_environment: dict[str, str]
) -> None:
    browser.to_provider()
    console = openid_app.extensions["receiver.console"]
    cookie = browser.visitor.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    kept = console.session_interface.get_signing_serializer(console).loads(cookie.value)
    assert set(kept["oidc"]) == {"state", "next", "at"}
    browser.sign_in()
    cookie = browser.visitor.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    assert "oidc" not in console.session_interface.get_signing_serializer(console).loads(cookie.value)
    ((stored,),) = rows(engine, "SELECT tokens FROM receiver.console_sessions")
    tokens = Encryption([openid_environment["ENCRYPTION_KEYS"]]).decrypt(stored)
    assert all(token in tokens for token in provider.refresh_tokens | provider.access_tokens)


def test_signing_in_begins_a_session_of_its_own(browser: Browser, openid_app: Flask, engine: Engine) -> None:
    browser.visitor.sign_in("vera")
    before = browser.visitor.client.get_cookie("receiver_console", path="/ops")
    assert before is not None
    browser.sign_in()
    assert "jane@example.com, operator" in browser.visitor.get("/ops/").text
    fixated = Visitor(openid_app.test_client())
    fixated.client.set_cookie("receiver_console", before.value, path="/ops")
    assert "jane@example.com" not in fixated.get("/ops/").text
    assert rows(engine, "SELECT count(DISTINCT token_hash) FROM receiver.console_sessions") == [(2,)]


@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        ("/reconcile/?organization=acme", "/ops/reconcile/?organization=acme"),
        ("https://evil.example", "/ops/"),
        ("//evil.example", "/ops/"),
        ("/\\evil.example", "/ops/"),
        ("/deliveries/?card_holder=" + "x" * 3_500, "/ops/"),
    ],
)
def test_sign_in_leads_to_pages_of_the_console_alone(browser: Browser, wanted: str, target: str) -> None:
    start = str(httpx.URL("/ops/sign-in/oidc", params={"next": wanted}))
    assert browser.sign_in(start).location == target


def test_a_new_key_of_the_provider_is_found(browser: Browser, provider: OpenIdProvider) -> None:
    browser.sign_in()
    provider.key = new_key()
    assert browser.sign_in().location == "/ops/"
    assert provider.asked.count("/keys") == 2
    assert provider.asked.count("/.well-known/openid-configuration") == 1


def test_groups_are_confirmed_once_a_minute(browser: Browser, provider: OpenIdProvider, engine: Engine) -> None:
    browser.sign_in()
    asked = len(provider.asked)
    for _ in range(3):
        assert browser.visitor.get("/ops/").status_code == 200
    assert len(provider.asked) == asked
    for _ in range(2):  # the second time with the refresh token that came the first time
        let_a_minute_pass(engine)
        assert [browser.visitor.get("/ops/").status_code for _ in range(3)] == [200] * 3
    assert provider.asked[asked:] == ["/token"] * 2


def test_user_who_lost_the_group_is_signed_out_at_the_next_check(
    browser: Browser, provider: OpenIdProvider, engine: Engine
) -> None:
    browser.sign_in()
    provider.groups = ["staff"]
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").location == "/ops/sign-in"
    shown = browser.visitor.get("/ops/sign-in").text
    assert "Your session has ended: none of your groups has a role here." in shown
    assert rows(engine, "SELECT ended_at IS NOT NULL, tokens FROM receiver.console_sessions") == [(True, None)]
    assert browser.visitor.get("/ops/").status_code == 302


def test_another_group_changes_the_role_of_a_session(
    browser: Browser, provider: OpenIdProvider, engine: Engine
) -> None:
    browser.sign_in()
    provider.groups = ["accounting"]
    let_a_minute_pass(engine)
    assert "jane@example.com, viewer" in browser.visitor.get("/ops/").text
    assert browser.visitor.post("/ops/replays/new", form="/ops/").status_code == 403


@pytest.mark.parametrize("answer", ["revoked", "refused"])
def test_user_who_is_no_longer_confirmed_is_signed_out(
    browser: Browser, provider: OpenIdProvider, engine: Engine, answer: str
) -> None:
    browser.sign_in()
    if answer == "revoked":
        provider.revoke()
    else:
        provider.refused = "invalid_grant"
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").location == "/ops/sign-in"
    assert "no longer confirms your sign-in" in browser.visitor.get("/ops/sign-in").text


def test_new_tokens_of_another_user_end_the_session(browser: Browser, provider: OpenIdProvider, engine: Engine) -> None:
    browser.sign_in()
    provider.changes = {"sub": "user-2"}
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").status_code == 302


def test_without_refresh_tokens_user_information_confirms(
    browser: Browser, provider: OpenIdProvider, engine: Engine
) -> None:
    provider.gives_refresh_tokens = False
    browser.sign_in()
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").status_code == 200
    assert provider.asked[-1] == "/userinfo"
    provider.revoke()
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").status_code == 302


@pytest.mark.parametrize("status", [500, 429])
def test_a_provider_that_is_down_ends_sessions_after_minutes(
    browser: Browser, provider: OpenIdProvider, engine: Engine, status: int
) -> None:
    browser.sign_in()
    provider.answers_with = status
    for _ in range(4):
        let_a_minute_pass(engine)
        assert browser.visitor.get("/ops/").status_code == 200
    asked = len(provider.asked)
    assert browser.visitor.get("/ops/").status_code == 200
    assert len(provider.asked) == asked  # it is not asked with each request
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").location == "/ops/sign-in"
    assert "could not confirm your sign-in for 5 minutes" in browser.visitor.get("/ops/sign-in").text
    provider.answers_with = 200
    assert browser.visitor.get("/ops/").status_code == 302


def test_a_provider_that_comes_back_confirms_again(browser: Browser, provider: OpenIdProvider, engine: Engine) -> None:
    browser.sign_in()
    provider.answers_with = 503
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").status_code == 200
    provider.answers_with = 200
    let_a_minute_pass(engine)
    assert browser.visitor.get("/ops/").status_code == 200
    assert rows(engine, "SELECT confirmed_at > now() - interval '10 s' FROM receiver.console_sessions") == [(True,)]


def test_while_another_request_asks_an_old_session_waits(browser: Browser, engine: Engine) -> None:
    browser.sign_in()
    execute(engine, "UPDATE receiver.console_sessions SET confirmed_at = now() - interval '30 min'")
    answer = browser.visitor.get("/ops/")
    assert (answer.status_code, "is being confirmed" in answer.text) == (503, True)
    execute(engine, "UPDATE receiver.console_sessions SET confirm_after = now()")
    assert browser.visitor.get("/ops/").status_code == 200


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://evil.example"}, {"token_endpoint": None}, {"jwks_uri": 7}],
    ids=["issuer", "incomplete", "malformed"],
)
def test_a_provider_that_publishes_nonsense_is_not_used(
    browser: Browser, provider: OpenIdProvider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert browser.visitor.get("/ops/sign-in/oidc").location == "/ops/sign-in"
    assert "does not answer as it should" in browser.visitor.get("/ops/sign-in").text


def test_a_provider_that_is_down_is_said(browser: Browser, provider: OpenIdProvider) -> None:
    back = browser.to_provider()
    provider.answers_with = 502
    assert browser.visitor.get(back).location == "/ops/sign-in"
    assert "does not answer as it should" in browser.visitor.get("/ops/sign-in").text


def test_refused_codes_are_slowed_down(browser: Browser, engine: Engine) -> None:
    for _ in range(FREE_FAILURES):
        browser.visitor.get(browser.to_provider().replace("code=", "code=x"))
    execute(engine, "UPDATE receiver.sign_in_failures SET next_attempt_at = now() + interval '90 s'")
    browser.sign_in()
    assert "Too many failed attempts" in browser.visitor.get("/ops/sign-in").text
    execute(engine, "UPDATE receiver.sign_in_failures SET next_attempt_at = now()")
    assert browser.sign_in().location == "/ops/"


def test_signing_out_ends_both_sessions(browser: Browser, provider: OpenIdProvider, engine: Engine) -> None:
    browser.sign_in()
    shown = browser.visitor.post("/ops/sign-out", form="/ops/")
    assert "You are signed out of the console" in shown.text
    target = shown.text.partition('<meta http-equiv="refresh" content="0; url=')[2].partition('"')[0]
    answer = httpx.get(target.replace("&amp;", "&"))
    assert answer.headers["Location"] == "http://localhost/ops/sign-in"
    assert not provider.refresh_tokens
    assert browser.visitor.get("/ops/").status_code == 302
    assert rows(engine, "SELECT ended_at IS NOT NULL, tokens FROM receiver.console_sessions") == [(True, None)]


def test_signing_out_works_without_the_provider(browser: Browser, provider: OpenIdProvider) -> None:
    provider.metadata = {"end_session_endpoint": None}
    browser.sign_in()
    provider.answers_with = 503
    assert browser.visitor.post("/ops/sign-out", form="/ops/").location == "/ops/sign-in"


@pytest.mark.parametrize("changes", [{"OPS_OIDC_ROLES": "ops-admins:viewer"}, {"OPS_OIDC_CLIENT_ID": "another"}])
def test_a_session_ends_when_its_openid_settings_change(
    browser: Browser, openid_environment: dict[str, str], changes: dict[str, str]
) -> None:
    browser.sign_in()
    cookie = browser.visitor.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    after_restart = create_app(load_settings({**openid_environment, **changes}))
    visitor = Visitor(after_restart.test_client())
    visitor.client.set_cookie("receiver_console", cookie.value, path="/ops")
    assert visitor.get("/ops/").status_code == 302
    after_restart.extensions["receiver.close"]()


def test_openid_connect_alone_shows_no_password_form(
    openid_environment: dict[str, str], provider: OpenIdProvider, engine: Engine
) -> None:
    del provider, engine  # asked for so that both are as new
    app = create_app(load_settings({**openid_environment, "OPS_USERS": ""}))
    browser = Browser(Visitor(app.test_client()))
    shown = browser.visitor.get("/ops/sign-in").text
    assert ("Sign in with" in shown, 'name="password"' in shown) == (True, False)
    assert browser.sign_in().location == "/ops/"
    app.extensions["receiver.close"]()


def test_a_session_outlives_the_rotation_of_keys(
    browser: Browser, openid_environment: dict[str, str], provider: OpenIdProvider, engine: Engine
) -> None:
    browser.sign_in()
    newest, older = Fernet.generate_key().decode(), openid_environment["ENCRYPTION_KEYS"]
    rotated = {state.name: state.older for state in rotate_keys(engine, Encryption([newest, older]))}
    assert rotated["receiver.console_sessions.tokens"] == 1
    after_restart = create_app(load_settings({**openid_environment, "ENCRYPTION_KEYS": newest}))
    cookie = browser.visitor.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    visitor = Visitor(after_restart.test_client())
    visitor.client.set_cookie("receiver_console", cookie.value, path="/ops")
    let_a_minute_pass(engine)
    assert visitor.get("/ops/").status_code == 200
    assert provider.asked[-2:] == ["/token", "/keys"]
    after_restart.extensions["receiver.close"]()


def test_a_name_of_a_user_with_a_password_is_marked(
    browser: Browser, provider: OpenIdProvider, running: ServedOpenIdProvider
) -> None:
    provider.name = {"preferred_username": "olga"}
    browser.sign_in()
    assert f"olga ({urlsplit(running.url).netloc}), operator" in browser.visitor.get("/ops/").text


def test_requests_at_once_ask_the_provider_once(
    browser: Browser, provider: OpenIdProvider, openid_app: Flask, engine: Engine
) -> None:
    browser.sign_in()
    cookie = browser.visitor.client.get_cookie("receiver_console", path="/ops")
    assert cookie is not None
    tabs = [Visitor(openid_app.test_client()) for _ in range(4)]
    for tab in tabs:
        tab.client.set_cookie("receiver_console", cookie.value, path="/ops")
    let_a_minute_pass(engine)
    asked = len(provider.asked)
    with ThreadPoolExecutor(len(tabs)) as together:
        answers = list(together.map(lambda tab: tab.get("/ops/reconcile/").status_code, tabs))
    assert answers == [200] * len(tabs)
    assert provider.asked[asked:] == ["/token"]


def test_without_openid_connect_its_addresses_lead_nowhere(stranger: Visitor) -> None:
    assert "Sign in with" not in stranger.get("/ops/sign-in").text
    for path in ("/ops/sign-in/oidc", "/ops/sign-in/oidc/callback"):
        assert stranger.get(path).status_code == 404


def test_viewer_is_recorded_by_e_mail(browser: Browser, engine: Engine, new_delivery: Callable[[], int]) -> None:
    browser.sign_in()
    delivery = new_delivery()
    assert browser.visitor.get(f"/ops/deliveries/{delivery}").status_code == 200
    assert rows(engine, "SELECT actor FROM receiver.audit WHERE action = 'deliveries show'") == [("jane@example.com",)]


@pytest.fixture
def new_delivery(acme: Any) -> Callable[[], int]:
    def deliver() -> int:
        acme.deliver("card.transaction.cleared", snapshot("cleared"))
        ((delivery,),) = rows(acme.engine, "SELECT max(id) FROM receiver.deliveries")
        return int(delivery)

    return deliver


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "jane@example.com", "preferred_username": "jane"}, "jane@example.com"),
        ({"email": "jane@example.com", "email_verified": False, "preferred_username": "jane"}, "jane"),
        ({"email": "a\nb", "preferred_username": "x" * 300, "sub": "user-1"}, "user-1"),
        ({"preferred_username": 7, "sub": "user-1"}, "user-1"),
    ],
)
def test_a_user_is_named_by_what_is_verified(claims: dict[str, Any], name: str) -> None:
    assert name_of(claims) == name


def test_the_highest_role_of_all_groups_counts() -> None:
    roles = {"a": Role.VIEWER, "b": Role.OPERATOR}
    assert role_of(["a", "b"], roles) is Role.OPERATOR
    assert role_of("a", roles) is Role.VIEWER
    assert role_of(None, roles) is None


def test_the_provider_shows_no_secret(openid_environment: dict[str, str]) -> None:
    provider = OpenIDProvider.of(load_settings(openid_environment))
    assert provider is not None
    assert CLIENT_SECRET not in repr(provider)
    provider.close()
