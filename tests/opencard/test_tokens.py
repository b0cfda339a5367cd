"""Tokens: exactly the scopes that are asked for, one for all processes, and a new one when it is refused."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text, update
from werkzeug.wrappers import Response

from receiver.encryption import Encryption
from receiver.errors import AccessDenied, OperationRefused, TokenRefused, UnreadableAnswer
from receiver.opencard.auth import Access, TokenAuth
from receiver.opencard.models import OAuthToken
from receiver.opencard.tokens import BorrowedTokens, MemoryTokens, StoredTokens, Token, TokenKey
from receiver.opencard.webhooks import Webhooks
from receiver.sandbox.provider import ApiFault
from tests.opencard.conftest import SECRET, ApiWorld, as_json
from tests.support.session_locks import ADVISORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from receiver.settings import Settings

READ = "organizations-read"


def ask(world: ApiWorld, *scopes: str, store: Any = None) -> None:
    Webhooks(world.api(*(scopes or (READ,)), store=store)).organizations()


def rows(engine: Engine) -> Sequence[Any]:
    with engine.connect() as connection:
        return connection.execute(select(OAuthToken.__table__)).all()


def test_exactly_the_needed_scopes_are_requested(world: ApiWorld) -> None:
    ask(world, READ, "webhooks-read")
    assert world.token_requests() == [{READ, "webhooks-read"}]
    assert world.provider.requests.scopes_used() == {READ, "webhooks-read"}


def test_unknown_scope_is_refused_before_any_request(world: ApiWorld) -> None:
    with pytest.raises(OperationRefused, match="no scope 'webhook-read': the nearest are webhooks-read"):
        world.api("webhook-read")
    assert world.token_requests() == []


def test_token_is_stored_encrypted_and_reused(
    world: ApiWorld, stored: StoredTokens, engine: Engine, settings: Settings
) -> None:
    ask(world, store=stored)
    ask(world, store=StoredTokens(engine, Encryption(settings.encryption_keys)))
    assert len(world.token_requests()) == 1
    (row,) = rows(engine)
    assert (row.api_url, row.client_id, row.scopes) == (world.url, "ems", READ)
    token = Encryption(settings.encryption_keys).decrypt(row.token)
    assert world.provider.clients.token(token) is not None
    assert token.encode() not in row.token


def test_each_set_of_scopes_has_its_own_token(world: ApiWorld, stored: StoredTokens) -> None:
    ask(world, READ, "webhooks-read", store=stored)
    ask(world, "webhooks-read", READ, store=stored)
    ask(world, READ, store=stored)
    assert world.token_requests() == [{READ, "webhooks-read"}, {READ}]


def test_tokens_are_separate_per_client_and_environment(stored: StoredTokens) -> None:
    mine = TokenKey("https://api.opencard.io", "ems", frozenset([READ]))
    until = datetime.now(UTC) + timedelta(hours=1)
    stored.obtain(mine, lambda: Token("mine", until))
    for other in (replace(mine, client_id="other"), replace(mine, api_url="https://sandbox-api.opencard.io")):
        assert stored.obtain(other, lambda: Token("another", until)).value == "another"
    assert stored.find(mine) == Token("mine", until)


@pytest.mark.parametrize(("expires_in", "unused"), [(31_536_000, 60), (3600, 60), (100, 10), (10, 1)])
def test_token_is_not_used_until_its_very_end(expires_in: float, unused: float) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    token = Token.issued("t", expires_in=expires_in, now=now)
    assert token.use_until == now + timedelta(seconds=expires_in - unused)


@pytest.mark.parametrize("kind", ["stored", "memory"])
def test_token_is_renewed_shortly_before_it_expires(world: ApiWorld, stored: StoredTokens, kind: str) -> None:
    store = stored if kind == "stored" else MemoryTokens()
    key = TokenKey(world.url, "ems", frozenset([READ]))
    store.obtain(key, lambda: Token("nearly over", datetime.now(UTC) - timedelta(microseconds=1)))
    ask(world, store=store)
    assert len(world.token_requests()) == 1
    assert store.obtain(key, lambda: Token("not asked for", datetime.now(UTC))).value != "nearly over"


def test_long_running_process_renews_its_token(world: ApiWorld) -> None:
    store = MemoryTokens()
    api = world.api(READ, store=store)
    Webhooks(api).organizations()
    aged = replace(api._auth.token(), use_until=datetime.now(UTC))
    api._auth._token = store._tokens[api._auth._key] = aged
    Webhooks(api).organizations()
    assert len(world.token_requests()) == 2
    assert [each.status for each in world.provider.requests.all(path="/api/")] == [200, 200]


def test_refused_token_is_dropped_and_replaced(world: ApiWorld, stored: StoredTokens, engine: Engine) -> None:
    ask(world, store=stored)
    before = rows(engine)
    world.provider.clients.revoke_tokens()
    ask(world, store=stored)
    assert [each.status for each in world.provider.requests.all(path="/api/")] == [200, 401, 200]
    assert len(world.token_requests()) == 2
    (after,) = rows(engine)
    assert after.token != before[0].token
    ask(world, store=stored)
    assert len(world.token_requests()) == 2


def test_refused_token_is_replaced_only_once(world: ApiWorld, stored: StoredTokens, pauses: list[float]) -> None:
    world.provider.faults.add(ApiFault("expire-token", "/api/", times=99))
    with pytest.raises(TokenRefused, match="different environments"):
        ask(world, store=stored)
    assert len(world.token_requests()) == 2
    assert world.asked() == 2
    assert pauses == []


def test_newer_token_of_another_process_is_not_dropped(world: ApiWorld, stored: StoredTokens, engine: Engine) -> None:
    mine = world.api(READ, store=stored)
    Webhooks(mine).organizations()
    world.provider.clients.revoke_tokens()
    ask(world, store=stored)  # another process finds out first
    newer = rows(engine)
    Webhooks(mine).organizations()
    assert rows(engine) == newer
    assert len(world.token_requests()) == 2


def test_token_older_than_a_granted_scope_is_replaced(world: ApiWorld, stored: StoredTokens) -> None:
    world.provider.behaviour.grants_silently = True
    world.provider.clients.set_scopes("ems", [])
    with pytest.raises(AccessDenied):
        ask(world, store=stored)
    assert (len(world.token_requests()), world.asked()) == (1, 1)  # a new token has what there is to be had
    world.provider.clients.set_scopes("ems", [READ])
    ask(world, store=stored)
    assert len(world.token_requests()) == 2


def test_refused_threads_request_one_new_token(world: ApiWorld, stored: StoredTokens) -> None:
    api = world.api(READ, store=stored)
    Webhooks(api).organizations()
    world.provider.clients.revoke_tokens()
    together = Barrier(8)

    def work() -> None:
        together.wait(10)
        Webhooks(api).organizations()

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(world.token_requests()) == 2
    assert [each.status for each in world.provider.requests.all(path="/api/")].count(200) == 9


def test_borrowed_tokens_use_what_is_stored_and_write_nothing(
    world: ApiWorld, stored: StoredTokens, engine: Engine
) -> None:
    ask(world, store=BorrowedTokens(stored))
    assert rows(engine) == []
    ask(world, store=stored)
    before = rows(engine)
    borrowed = BorrowedTokens(stored)
    ask(world, store=borrowed)
    assert len(world.token_requests()) == 2
    world.provider.clients.revoke_tokens()
    ask(world, store=borrowed)
    ask(world, store=borrowed)
    assert len(world.token_requests()) == 3
    assert rows(engine) == before


def test_token_under_a_removed_key_is_requested_again(world: ApiWorld, stored: StoredTokens, engine: Engine) -> None:
    ask(world, store=stored)
    with engine.begin() as connection:
        gone = Encryption([Fernet.generate_key().decode()])
        connection.execute(update(OAuthToken).values(token=gone.encrypt("unreadable")))
    ask(world, store=stored)
    ask(world, store=stored)
    assert len(world.token_requests()) == 2


def test_failed_request_leaves_no_token_and_no_lock(world: ApiWorld, stored: StoredTokens, engine: Engine) -> None:
    world.provider.faults.add(ApiFault.answers(403, path="/oauth/token"))
    with pytest.raises(Exception, match="OPENCARD_CLIENT_SECRET"):
        ask(world, store=stored)
    assert rows(engine) == []
    with engine.connect() as connection:
        assert connection.execute(text(ADVISORY)).scalar_one() == 0
    ask(world, store=stored)


ANSWERS = [
    "{}",
    "[]",
    "token",
    "",
    '{"access_token": "t"}',
    '{"expires_in": 1}',
    '{"access_token": "", "expires_in": 60}',
    '{"access_token": "two\\nlines", "expires_in": 60}',
    '{"access_token": "t\\u00f6ken", "expires_in": 60}',
    '{"access_token": 7, "expires_in": 60}',
    '{"access_token": "t", "expires_in": "soon"}',
    '{"access_token": "t", "expires_in": 0}',
    '{"access_token": "t", "expires_in": 1e300}',
    '{"access_token": "t", "expires_in": null}',
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_without_a_usable_token_is_unreadable(answering: Callable[..., Access], answer: str) -> None:
    access = answering(lambda _: as_json({}), Response(answer, content_type="application/json"))
    with (
        closing(TokenAuth(access, [READ], MemoryTokens())) as auth,
        pytest.raises(UnreadableAnswer, match=r"^POST /oauth/token: .*check that OPENCARD_API_URL"),
    ):
        auth.token()


def test_token_numbers_may_be_strings_with_unknown_fields(answering: Callable[..., Access]) -> None:
    answer = {"access_token": "t", "expires_in": "60", "refresh": {"x": 1}, "scope": "organizations-read other"}
    with closing(TokenAuth(answering(lambda _: as_json({}), as_json(answer)), [READ], MemoryTokens())) as auth:
        assert auth.token().value == "t"


def test_repr_contains_no_secret(world: ApiWorld) -> None:
    api = world.api(READ)
    token = api._auth.token()
    for thing in (world.access, token, api, api._auth, api._auth._key, api._http):
        assert SECRET not in repr(thing)
        assert token.value not in repr(thing)
