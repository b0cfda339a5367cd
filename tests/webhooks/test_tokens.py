"""Tokens of OAuth webhooks: whom they open which endpoint for, and until when."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given
from hypothesis import strategies as st

from receiver.deliveries.authentication import authenticate
from receiver.errors import NotAuthentic
from receiver.settings import SignaturePolicy
from receiver.webhooks.credentials import AuthenticationType, Credentials, Expected
from receiver.webhooks.oauth import KEY_LABEL, TOKEN_LIFETIME, issue_token, verify_token

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "the-client-secret"
ACME: dict[str, Any] = {"webhook_id": 7, "client_id": "acme-client", "client_secret": SECRET}
SECOND = timedelta(seconds=1)

secrets = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
clients = st.fixed_dictionaries(
    {"webhook_id": st.integers(1, 2**63 - 1), "client_id": secrets, "client_secret": secrets}
)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - see timezones


def refusal(token: str, now: datetime = NOON, **changes: Any) -> str:
    """Return why *token* is refused on acme's webhook, *changes* applied to it."""
    with pytest.raises(NotAuthentic) as refused:
        verify_token(token, **{**ACME, **changes}, now=now)
    return refused.value.reason


def segment(content: bytes | dict[str, Any]) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def key(secret: str = SECRET) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=KEY_LABEL).derive(secret.encode())


HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {
    "iss": "opencard-receiver",
    "aud": "webhook:7",
    "sub": "acme-client",
    "iat": int(NOON.timestamp()),
    "exp": int(NOON.timestamp()) + 900,
}


def forged(header: dict[str, Any] = HEADER, claims: object = CLAIMS, *, by: bytes | None = None) -> str:
    """Return a token signed with the right key, or with the key *by*."""
    content = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{segment(header)}.{segment(content)}"
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(str(header.get("alg")), hashlib.sha256)
    return f"{signed}.{segment(hmac.new(by or key(), signed.encode(), digest).digest())}"


@given(client=clients, now=moments)
def test_a_token_opens_its_own_webhook_from_now_until_it_expires(client: dict[str, Any], now: datetime) -> None:
    token = issue_token(**client, now=now)
    whole = now.replace(microsecond=0)
    for moment in (now, whole + TOKEN_LIFETIME - timedelta(microseconds=1)):
        verify_token(token, **client, now=moment)
    for moment in (whole + TOKEN_LIFETIME, now + TOKEN_LIFETIME, now + timedelta(days=365)):
        with pytest.raises(NotAuthentic, match="not authentic") as refused:
            verify_token(token, **client, now=moment)
        assert refused.value.reason == "oauth-expired"


def test_a_token_lasts_a_quarter_of_an_hour() -> None:
    token = issue_token(**ACME, now=NOON)
    verify_token(token, **ACME, now=NOON + timedelta(minutes=15) - SECOND)
    assert refusal(token, NOON + timedelta(minutes=15)) == "oauth-expired"


@given(one=clients, other=clients)
def test_a_token_of_one_webhook_opens_no_other(one: dict[str, Any], other: dict[str, Any]) -> None:
    assume(one != other)
    with pytest.raises(NotAuthentic) as refused:
        verify_token(issue_token(**one, now=NOON), **other, now=NOON)
    assert refused.value.reason == "oauth-wrong"


@pytest.mark.parametrize("changed", [{"webhook_id": 8}, {"client_id": "globex-client"}, {"client_secret": "replaced"}])
def test_webhook_client_and_secret_each_bind_a_token(changed: dict[str, Any]) -> None:
    assert refusal(issue_token(**ACME, now=NOON), **changed) == "oauth-wrong"


def test_token_of_a_replaced_secret_is_wrong_even_if_expired() -> None:
    assert refusal(issue_token(**ACME, now=NOON), NOON + timedelta(days=1), client_secret="new") == "oauth-wrong"


def test_a_token_written_by_hand_to_the_same_rules_is_taken() -> None:
    verify_token(forged(), **ACME, now=NOON)


def test_token_from_a_clock_slightly_ahead_is_accepted() -> None:
    verify_token(issue_token(**ACME, now=NOON + timedelta(seconds=30)), **ACME, now=NOON)
    assert refusal(issue_token(**ACME, now=NOON + timedelta(minutes=2))) == "oauth-wrong"


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("value", [None, "", 0, "other", [], {}, True, -1.5, float("nan"), float("inf")])
def test_every_claim_is_needed_and_must_be_right(claim: str, value: object) -> None:
    if claim == "iat" and value in (0, True, -1.5):
        return  # long ago: expiry alone decides
    assert refusal(forged(claims={name: given for name, given in CLAIMS.items() if name != claim})) == "oauth-wrong"
    assert refusal(forged(claims={**CLAIMS, claim: value})) in {"oauth-wrong", "oauth-expired"}


@pytest.mark.parametrize("claims", [b"", b"[]", b"7", b"null", b'"iss"', b"{", b"\xff", b"{}"])
def test_unreadable_claims_are_refused_even_with_the_right_key(claims: bytes) -> None:
    assert refusal(forged(claims=claims)) in {"oauth-wrong", "oauth-malformed"}


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", segment(b"anything")])
def test_a_token_that_says_it_needs_no_signature_is_refused(alg: str, signature: str) -> None:
    assert refusal(f"{segment({'alg': alg, 'typ': 'JWT'})}.{segment(CLAIMS)}.{signature}") == "oauth-wrong"
    assert refusal(f"{segment(HEADER)}.{segment(CLAIMS)}.{signature}") == "oauth-wrong"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS384", "typ": "JWT"},
        {"alg": "HS512", "typ": "JWT"},
        {"alg": "RS256", "typ": "JWT"},
        {"alg": "ES256", "typ": "JWT"},
        {"typ": "JWT"},
        {**HEADER, "kid": "../../dev/null"},
        {**HEADER, "jwk": {"kty": "oct", "k": segment(b"mine")}},
        {**HEADER, "jku": "https://attacker.example/keys"},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "crit": [[]]},
        {"alg": [], "typ": "JWT"},
        {"alg": {"alg": "HS256"}},
    ],
)
def test_only_the_header_of_our_own_tokens_is_accepted(header: dict[str, Any]) -> None:
    assert refusal(forged(header)) == "oauth-wrong"
    assert refusal(forged(header, by=b"mine")) == "oauth-wrong"


@pytest.mark.parametrize(
    "by", [b"mine", b"\0", SECRET.encode(), key("other"), key()[:31], hashlib.sha256(SECRET.encode()).digest()]
)
def test_only_the_key_of_the_secret_signs_valid_tokens(by: bytes) -> None:
    assert refusal(forged(by=by)) == "oauth-wrong"


@given(position=st.integers(0, 10_000), letter=st.sampled_from("AZaz09-_.=+/ \u00e9"))
def test_a_token_with_any_letter_changed_is_refused(position: int, letter: str) -> None:
    token = issue_token(**ACME, now=NOON)
    position %= len(token)
    assume(token[position] != letter)
    assert refusal(token[:position] + letter + token[position + 1 :]) in {"oauth-wrong", "oauth-malformed"}


garbage = st.text(max_size=80) | st.binary(max_size=60).map(segment) | st.from_regex(r"[\w-]{0,20}(\.[\w-]{0,20}){0,5}")


@given(token=garbage)
def test_any_text_as_a_token_is_checked_without_crash(token: str) -> None:
    assert refusal(token) in {"oauth-wrong", "oauth-malformed"}


@given(claims=st.binary(max_size=80), signature=st.binary(max_size=80))
def test_garbage_after_the_right_header_never_crashes(claims: bytes, signature: bytes) -> None:
    assert refusal(f"{segment(HEADER)}.{segment(claims)}.{segment(signature)}") in {"oauth-wrong", "oauth-malformed"}


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c.d", ".b.c", "a..c", "a.b.c=", "a.b.c\n", "a b.c.d", "\u00e9.b.c"]
)
def test_malformed_token_is_refused(token: str) -> None:
    assert refusal(token) == "oauth-malformed"


def test_a_token_of_any_length_is_judged() -> None:
    long = "A" * 1_000_000
    assert refusal(f"{long}.{long}.{long}") == "oauth-wrong"
    assert refusal(f"{segment(HEADER)}.{long}.{long}") == "oauth-wrong"


def test_a_webhook_without_a_client_secret_has_no_tokens() -> None:
    with pytest.raises(ValueError, match="empty"):
        issue_token(**{**ACME, "client_secret": ""}, now=NOON)
    assert refusal(forged(by=key("")), client_secret="") == "oauth-wrong"


EXPECTED = Expected(
    ("secret",),
    AuthenticationType.OAUTH,
    Credentials(oauth_client_id="acme-client", oauth_client_secret=SECRET),
    webhook_id=7,
    now=NOON,
)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {} "])
def test_a_bearer_token_proves_a_delivery(form: str) -> None:
    headers = {"Authorization": form.format(forged())}
    assert authenticate(b"{}", headers, EXPECTED, SignaturePolicy.WHEN_PRESENT) == "oauth"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "oauth-missing"),
        ({"Authorization": ""}, "oauth-malformed"),
        ({"Authorization": forged()}, "oauth-malformed"),
        ({"Authorization": f"Basic {forged()}"}, "oauth-malformed"),
        ({"Authorization": f"Bearer {forged()} {forged()}"}, "oauth-malformed"),
        ({"Authorization": f"Bearer {forged(by=b'mine')}"}, "oauth-wrong"),
        ({"X-Token": forged()}, "oauth-missing"),
    ],
)
def test_anything_but_a_bearer_token_is_refused(headers: dict[str, str], reason: str) -> None:
    signed = {"X-Data-Signature": hmac.new(b"secret", b"{}", hashlib.sha256).hexdigest()}
    for sent in (headers, {**headers, **signed}):
        with pytest.raises(NotAuthentic) as refused:
            authenticate(b"{}", sent, EXPECTED, SignaturePolicy.WHEN_PRESENT)
        assert refused.value.reason == reason


def test_token_without_an_expected_time_is_refused() -> None:
    timeless = Expected(("secret",), EXPECTED.authentication_type, EXPECTED.credentials, webhook_id=7)
    with pytest.raises(NotAuthentic) as refused:
        authenticate(b"{}", {"Authorization": f"Bearer {forged()}"}, timeless, SignaturePolicy.WHEN_PRESENT)
    assert refused.value.reason == "oauth-expired"
